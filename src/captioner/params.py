"""What is computed: ``params.yaml``, read once, checked whole, frozen.

Every verb checks the whole file before it does anything. Each stage is handed its own section only, so that what
DVC tracks for a stage and what the stage can see are the same thing. Knows nothing of where things run: that is
``settings.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from captioner.deployparams import DeployParams as DeployParams
from captioner.errors import BadParams
from captioner.experimentparams import ExperimentParams as ExperimentParams
from captioner.section import Section, Share
from captioner.trainparams import FinetuneParams as FinetuneParams
from captioner.trainparams import ScstParams as ScstParams
from captioner.trainparams import TrainParams as TrainParams
from captioner.trainparams import View as View

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class SampleParams(Section):
    """The rendered scenes."""

    images: int = Field(ge=60, le=100_000)
    size: int = Field(ge=64, le=1024, description="pixels, square")
    seed: int = Field(ge=0)


class Flickr8kParams(Section):
    """The public release; where it lies is the setting CAPTIONER_FLICKR8K."""

    sha256: dict[str, tuple[Sha256, ...]] = Field(
        description="archive name → the checksums that are accepted; no entry: accepted as it is, and said so"
    )
    md5: dict[str, tuple[Md5, ...]] = Field(
        default={}, description="the same, for archives of which only the MD5 is published"
    )


class FolderParams(Section):
    """Anybody's own pictures and a captions CSV (columns: image, caption and, if wanted, split)."""

    path: str
    captions: str = Field(description="the CSV, relative to path")
    dev_share: Share = 0.1
    test_share: Share = 0.1
    seed: int = 0


class AcquireParams(Section):
    dataset: Literal["sample", "flickr8k", "folder"]
    sample: SampleParams | None = None
    flickr8k: Flickr8kParams | None = None
    folder: FolderParams | None = None

    @model_validator(mode="after")
    def _has_its_section(self) -> AcquireParams:
        if getattr(self, self.dataset) is None:
            raise ValueError(f"dataset is {self.dataset!r}, but acquire.{self.dataset} is missing")
        return self


class ValidateParams(Section):
    captions_per_image: int = Field(ge=1, description="the number that an image should have")
    captions_per_image_min: int = Field(ge=1, description="fewer than this and the image goes to quarantine")
    max_words: int = Field(ge=1, description="a longer caption goes to quarantine")
    min_pixels: int = Field(ge=1, description="shortest side")
    max_pixels: int = Field(ge=1, description="longest side")
    max_aspect: float = Field(ge=1.0)
    min_vocabulary: int = Field(ge=1)
    min_images: dict[Literal["train", "dev", "test"], int]
    max_quarantined: Share = Field(description="share of rows above which the stage fails")


class FeaturesParams(Section):
    encoder: str
    layout: Literal["grid", "pooled"] = "grid"
    batch: int = Field(ge=1, le=512)
    engine: Literal["tensorflow", "openvino"] = Field(
        default="tensorflow", description="what runs the network; openvino needs the extra of that name"
    )
    views: tuple[View, ...] = Field(default=(), description="views of the training images beside the plain one")


class DecoderParams(Section):
    """One candidate's network."""

    kind: Literal["merge", "attention"]
    units: int = Field(ge=8)
    embedding: int = Field(ge=8)
    dropout: float = Field(ge=0, lt=1)
    heads: int = Field(default=1, ge=1, description="of the attention; units must be a multiple")
    sentinel: bool = Field(default=True, description="whether attention may look away from the picture")
    members: int = Field(default=1, ge=1, le=8, description="networks, from one seed each, that decide together")
    word_vectors: str | None = Field(default=None, description="a GloVe text file to start the embedding from")

    @model_validator(mode="after")
    def _heads_fit(self) -> DecoderParams:
        if self.units % self.heads:
            raise ValueError(f"units ({self.units}) must be a multiple of heads ({self.heads})")
        return self


class ExportParams(Section):
    beam: int = Field(ge=1, le=20)
    length_power: float = Field(ge=0, le=2, description="score = log probability / words ** length_power")
    top: int = Field(ge=1, le=20, description="captions in an answer")
    no_repeat_ngram_size: int = Field(
        default=0, ge=0, le=10, description="a caption never says so many words in a row twice; 0: it may"
    )
    neighbours: int = Field(
        default=0, ge=0, le=100, description="training pictures whose captions rate its own; 0: none"
    )
    agreement: float = Field(default=0.0, ge=0, description="score += agreement (0 to 1) with their captions * this")
    flip: bool = Field(default=False, description="whether the network also looks at each picture's mirror image")

    @model_validator(mode="after")
    def _top_fits(self) -> ExportParams:
        if self.top > self.beam:
            raise ValueError(f"top ({self.top}) cannot be more than beam ({self.beam})")
        if self.no_repeat_ngram_size == 1:
            raise ValueError("no_repeat_ngram_size is 0, or from 2 on: with 1 no caption could say 'a' twice")
        if bool(self.neighbours) != bool(self.agreement):
            raise ValueError("neighbours and agreement come together: one of them is 0")
        return self


class EvaluateParams(Section):
    split: Literal["dev", "test"] = "test"
    batch: int = Field(ge=1)
    gallery: int = Field(ge=1, description="captions shown of each kind: best, worst, random")
    seed: int = 0


class RegisterParams(Section):
    """The gate."""

    metric: Literal["cider", "bleu_4"] = "cider"
    margin: float = Field(ge=0, description="non-inferiority margin, in points of the metric (x100 scale)")
    confidence: float = Field(gt=0.5, lt=1)
    resamples: int = Field(ge=100)
    seed: int = 0
    max_slice_drop: float = Field(ge=0, description="largest drop allowed in any slice, in points")
    min_slice: int = Field(ge=1, description="smaller slices are shown and not judged")
    min_distinct: Share = Field(description="share of distinct captions below which the model has collapsed")
    min_score: float = Field(default=0.0, ge=0, description="a first champion's floor")
    first_champion: Literal["shipped"] | None = Field(
        default=None, description="shipped: while there is no champion, the model in models/shipped is registered first"
    )


class Params(Section):
    profile: Name
    candidates: tuple[Name, ...] = Field(min_length=1)
    acquire: AcquireParams
    validate_: ValidateParams = Field(alias="validate")
    features: FeaturesParams
    train: TrainParams
    decoders: dict[Name, DecoderParams]
    export: ExportParams
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")
    deploy: DeployParams
    experiment: ExperimentParams = ExperimentParams()

    @model_validator(mode="after")
    def _every_candidate_has_a_decoder(self) -> Params:
        if len(set(self.candidates)) != len(self.candidates):
            raise ValueError(f"candidates names one twice: {', '.join(self.candidates)}")
        for name in self.candidates:
            if name not in self.decoders:
                raise ValueError(f"no candidate {name!r} in decoders; there is: {', '.join(sorted(self.decoders))}")
        return self

    @model_validator(mode="after")
    def _views_are_made(self) -> Params:
        missing = [view for view in self.train.views if view not in self.features.views]
        if missing:
            raise ValueError(f"train.views names {', '.join(missing)}, which features.views does not make")
        return self

    def decoder(self, candidate: str) -> DecoderParams:
        """The network of `candidate`. Raises BadParams with the valid names."""
        if candidate not in self.candidates:
            raise BadParams(f"There is no candidate {candidate!r}; params.yaml has: {', '.join(self.candidates)}.")
        return self.decoders[candidate]


def load_params(path: Path) -> Params:
    """Read and check params.yaml whole. Raises BadParams with one sentence per fault, valid keys named."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadParams(
            f"There is no {path.name} here ({path.parent}): run captioner from the project's folder."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadParams(f"{path} cannot be read: {error}.") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadParams(f"{path.name} is not YAML: {' '.join(str(error).split())}.") from None
    return parse_params(data, source=path.name)


def parse_params(data: Any, source: str = "params.yaml") -> Params:
    """Check already parsed YAML. Raises BadParams."""
    if not isinstance(data, dict):
        raise BadParams(f"{source} must hold sections ({', '.join(_keys(Params))}), not {type(data).__name__}.")
    try:
        # YAML has no tuples, so strictness is per field: lists are read as tuples, text stays text.
        return Params.model_validate(_tuples(data))
    except ValidationError as error:
        raise BadParams(f"{source}: " + "; ".join(_explain(fault) for fault in error.errors()) + ".") from None


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _explain(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        valid = _keys(_section_at(fault["loc"][:-1]))
        return f"{where} is not a parameter; the valid ones there are: {', '.join(valid)}"
    message = fault["msg"].removeprefix("Value error, ")
    unseen = isinstance(fault.get("input"), dict) or fault["type"] == "missing"
    shown = "" if unseen else f" (got {fault.get('input')!r})"
    return f"{where}: {message}{shown}" if where else f"{message}"


def _section_at(location: tuple[Any, ...]) -> type[BaseModel]:
    """The model that `location` points into, so that its valid keys can be named."""
    model: type[BaseModel] = Params
    for part in location:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                nested = [t for t in _types_in(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
                if nested:
                    model = nested[0]
    return model


def _types_in(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(t for argument in arguments for t in _types_in(argument))]
