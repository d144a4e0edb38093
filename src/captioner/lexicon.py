"""The words that the fault rules know: things, arranged from the general to the particular, colours and numbers.

Made for what Flickr8k's captions and the sample's scenes speak of; a word that is not here is not judged. Two things
agree when they are the same or one is a kind of the other: a poodle is a dog, an ocean is water, but a dog is no
horse and a pool no ocean. Pure data: knows nothing of captions' scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# concept < wider concept: singular words | plural words. A concept's own name is a word only where it is listed.
_THINGS = """
person: person someone adult human athlete artist bicyclist biker climber coach cyclist dancer drummer guitarist
  diver driver fan fisherman friend hiker jockey kayaker motorcyclist musician officer pedestrian performer
  photographer player policeman racer referee rider runner singer skateboarder skater skier snowboarder soldier
  spectator student surfer swimmer teenager teen wakeboarder worker wrestler rollerblader clown goalie cheerleader
  pitcher batter catcher opponent owner sailor tourist bride groom onlooker skydiver gymnast boxer golfer vendor |
  people persons adults humans athletes artists bicyclists bikers climbers cyclists dancers drummers divers fans
  friends hikers jockeys kayakers motorcyclists musicians officers pedestrians performers photographers players
  policemen racers referees riders runners singers skateboarders skaters skiers snowboarders soldiers spectators
  students surfers swimmers teenagers teens workers wrestlers rollerbladers clowns cheerleaders rafters tourists
  families family couples couple crowd team band audience onlookers golfers boxers
man < person: man guy gentleman male father dad cowboy husband grandfather | men guys gentlemen males fathers cowboys
woman < person: woman lady female mother mom wife grandmother | women ladies females mothers
child < person: child kid toddler baby infant youngster | children kids toddlers babies infants youngsters
boy < child: boy son | boys sons
girl < child: girl daughter | girls daughters
animal: animal pet | animals pets
dog < animal: dog puppy pup beagle bulldog collie dalmatian doberman greyhound husky labrador lab poodle pug retriever
  rottweiler shepherd terrier dachshund spaniel pitbull | dogs puppies pups greyhounds poodles terriers huskies
cat < animal: cat kitten | cats kittens
horse < animal: horse pony | horses ponies
cow < animal: cow bull calf | cows bulls cattle
sheep < animal: sheep goat lamb | goats lambs
bird < animal: bird duck goose pigeon seagull swan crane parrot | birds ducks geese pigeons seagulls swans
camel < animal: camel | camels
elephant < animal: elephant | elephants
deer < animal: deer |
bear < animal: bear | bears
monkey < animal: monkey | monkeys
rabbit < animal: rabbit bunny | rabbits bunnies
tiger < animal: tiger lion | tigers lions
fish < animal: fish | fishes
clothes: clothing clothes outfit attire costume uniform suit wear gear | outfits costumes uniforms suits
shirt < clothes: shirt t-shirt tshirt blouse jersey tee | shirts tshirts jerseys
jacket < clothes: jacket coat sweater sweatshirt hoodie vest parka | jackets coats sweaters sweatshirts vests hoodies
trousers < clothes: | pants jeans trousers shorts trunks leggings
dress < clothes: dress gown skirt | dresses skirts
swimsuit < clothes: swimsuit bikini wetsuit | swimsuits bikinis wetsuits
hat < clothes: hat cap beanie headband | hats caps
helmet < clothes: helmet | helmets
glasses < clothes: | glasses sunglasses goggles
shoe < clothes: shoe boot sneaker | shoes boots sneakers sandals
glove < clothes: glove | gloves
scarf < clothes: scarf | scarves
water: water | waters
ocean < water: ocean sea surf wave shore shoreline | waves
lake < water: lake pond | lakes
river < water: river stream creek rapids waterfall | rivers
pool < water: pool | pools
fountain < water: fountain sprinkler hose | fountains sprinklers
puddle < water: puddle | puddles
beach: beach sand shore shoreline coast seashore | beaches dunes
snow: snow snowbank | snowdrifts
ice: ice rink |
grass: grass field lawn meadow yard backyard park pasture lot | fields
forest: forest wood bush | woods bushes trees tree
mountain: mountain hill cliff rock boulder slope mountainside hillside peak | mountains hills cliffs rocks boulders
road: road street sidewalk pavement path trail highway driveway track crosswalk alley curb | roads streets paths trails
mud: mud dirt dust |
building: building house home store shop church structure | buildings houses stores shops
wall: wall | walls
fence: fence railing rail gate | fences
stairs: stair step staircase | stairs steps
bridge: bridge | bridges
sky: sky air midair | clouds
room: room kitchen bedroom hallway |
ball: ball football basketball baseball volleyball | balls
frisbee: frisbee disc | frisbees
toy: toy doll | toys
stick: stick branch | sticks
racket: racket racquet | rackets
bat: bat | bats
guitar: guitar | guitars
drum: drum | drums
microphone: microphone mic | microphones
camera: camera | cameras
phone: phone cellphone | phones
book: book newspaper magazine | books newspapers
umbrella: umbrella | umbrellas
flag: flag banner | flags
sign: sign | signs
bag: bag backpack purse | bags backpacks
bicycle: bicycle bike | bicycles bikes
motorcycle: motorcycle motorbike bike dirtbike | motorcycles motorbikes bikes
skateboard: skateboard | skateboards
snowboard: snowboard | snowboards
ski: ski | skis
sled: sled | sleds
surfboard: surfboard wakeboard | surfboards
scooter: scooter tricycle | scooters
car: car truck van taxi jeep suv vehicle | cars trucks vehicles
bus: bus | buses
train: train subway | trains
airplane: airplane plane | airplanes planes
boat: boat kayak canoe raft ship sailboat | boats kayaks canoes
wheelchair: wheelchair | wheelchairs
ramp: ramp | ramps
swing: swing | swings
slide: slide | slides
trampoline: trampoline | trampolines
rope: rope leash | ropes
hurdle: hurdle obstacle | hurdles obstacles
bench: bench | benches
chair: chair seat | chairs
table: table counter desk | tables
bed: bed | beds
couch: couch sofa | couches
tent: tent | tents
flower: flower | flowers
leaf: leaf | leaves
fire: fire campfire | fireworks
food: food cake pizza sandwich | snacks
bottle: bottle cup glass | bottles cups
bubble: bubble | bubbles
balloon: balloon | balloons
tunnel: tunnel tube | tunnels
stage: stage |
window: window | windows
door: door doorway | doors
circle: circle | circles
square: square | squares
triangle: triangle | triangles
star: star | stars
cross: cross | crosses
heart: heart | hearts
"""

# Words that are as often verbs, or parts of a phrase ("a park bench"): a thing only where
# the word before says so.
_UNSURE = """
band bat bats bear bears boxer branch camera cap circle coach couple crane cross crosses crowd dress dresses drum
duck fan fans fire fish fishes flag glass heart hearts hose ice lab leaves lot park phone rail ramp rock rocks seat
sheep shop ski skis sled slide slides square star stars step steps suit suits surf swings team track
trail train trains water wave waves wear wood
"""

_COLOURS = """
red: red maroon | orange: orange | yellow: yellow gold golden | green: green | blue: blue teal turquoise navy
purple: purple violet | pink: pink | brown: brown tan beige khaki | black: black | white: white | grey: grey gray silver
"""

_NUMBERS = """
1: a an one single lone 1 another | 2: two 2 both pair couple | 3: three 3 | 4: four 4 | 5: five 5 | 6: six 6
7: seven 7 | 8: eight 8 | 9: several many some group crowd bunch lot multiple
"""

SEVERAL = 9
"""What `NUMBERS` has for words that say "more than one" without a number."""

# What an unsure word follows where it is a thing, beside numbers and colours; the first line ends a description.
_OPENERS = """
the his her its their this that these those on in of with from at by into onto through against over under near
"""
_ADJECTIVES = "and large small big little long tall steep wooden metal plastic rocky snowy grassy"


@dataclass(frozen=True)
class Thing:
    """One thing that a caption names: its concepts (a bike may be a bicycle or a motorcycle), and what is said of it.

    `count` is what the words before it and its form tell: a number, or SEVERAL. `colours` stand right before it.
    """

    word: str
    concepts: frozenset[str]
    count: int
    colours: frozenset[str]


def things(tokens: Sequence[str]) -> list[Thing]:
    """The things that a tokenised caption names, in its order."""
    found = []
    for place, word in enumerate(tokens):
        known = CONCEPTS.get(word)
        if known is None or (word in UNSURE and not _stands_as_a_thing(tokens, place)):
            continue
        if word in NUMBERS and tokens[place + 1 : place + 2] == ["of"]:
            continue  # "a couple of dogs": a number
        colours, count = _said_before(tokens, place)
        found.append(Thing(word, known, SEVERAL if word in PLURALS and count <= 1 else count, colours))
    return found


def agree(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether a concept of `one` is one of `other`, a kind of it, or wider than it."""
    mine, theirs = set(one), set(other)
    return not {*mine, *_wider(mine)}.isdisjoint(theirs) or not {*theirs, *_wider(theirs)}.isdisjoint(mine)


def is_a(concepts: Iterable[str], wider: str) -> bool:
    """Whether one of `concepts` is `wider` or a kind of it."""
    own = set(concepts)
    return wider in own or wider in _wider(own)


def _wider(concepts: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for concept in concepts:
        above = PARENTS.get(concept)
        while above:
            found.add(above)
            above = PARENTS.get(above)
    return found


def _stands_as_a_thing(tokens: Sequence[str], place: int) -> bool:
    """Whether the word before is an article, a number, a colour, a preposition or an adjective of size."""
    if place == 0:
        return False
    before = tokens[place - 1]
    return before in OPENERS | ADJECTIVES or before in NUMBERS or before in COLOURS


def _said_before(tokens: Sequence[str], place: int) -> tuple[frozenset[str], int]:
    """Colours and number in the run of describing words that leads up to `place`."""
    colours, count, at = set(), 0, place - 1
    # "two black and white dogs": back over colours, "and", adjectives, to a number or an article.
    while at >= 0 and place - at <= 5:
        word = tokens[at]
        if word in COLOURS:
            colours.add(COLOURS[word])
        elif word in NUMBERS:
            count = NUMBERS[word]
            break
        elif word == "of" and at > 0 and tokens[at - 1] in NUMBERS:
            count = NUMBERS[tokens[at - 1]]
            break
        elif word in CONCEPTS or word in OPENERS or not _may_describe(tokens, at):
            break
        at -= 1
    return frozenset(colours), count or 1


def _may_describe(tokens: Sequence[str], at: int) -> bool:
    """`and` between two colours, or one more adjective right before the thing or another describing word."""
    if tokens[at] == "and":
        return at > 0 and tokens[at - 1] in COLOURS
    return not tokens[at].endswith(("ing", "s"))


def _read_things(text: str) -> tuple[dict[str, frozenset[str]], dict[str, str], frozenset[str]]:
    """word → concepts, concept → wider concept, and the words that are plural."""
    concepts: dict[str, set[str]] = {}
    parents: dict[str, str] = {}
    plurals: set[str] = set()
    for line in text.replace("\n  ", " ").strip().splitlines():
        head, _, words = line.partition(":")
        concept, _, parent = (part.strip() for part in head.partition("<"))
        if parent:
            parents[concept] = parent
        single, _, several = words.partition("|")
        plurals.update(several.split())
        for word in (*single.split(), *several.split()):
            concepts.setdefault(word, set()).add(concept)
    return {word: frozenset(found) for word, found in concepts.items()}, parents, frozenset(plurals)


def _read_groups(text: str) -> dict[str, str]:
    groups = (group.partition(":") for group in text.replace("\n", "|").split("|") if ":" in group)
    return {word: name.strip() for name, _, words in groups for word in words.split()}


CONCEPTS, PARENTS, PLURALS = _read_things(_THINGS)
UNSURE = frozenset(_UNSURE.split())
COLOURS = _read_groups(_COLOURS)
NUMBERS = {word: int(number) for word, number in _read_groups(_NUMBERS).items()}
OPENERS = frozenset(_OPENERS.split())
ADJECTIVES = frozenset(_ADJECTIVES.split())
