"""The section ``train`` of params.yaml: how a candidate's network learns, phase by phase."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from captioner.section import Section, Share

View = Literal["flip", "zoom", "zoom-flip"]


class ScstParams(Section):
    """Self-critical training on CIDEr, from the best weights of cross-entropy on."""

    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    samples: int = Field(ge=2, description="captions drawn for each image and step")
    patience: int = Field(ge=1, description="epochs without a better dev score")
    brevity: bool = Field(default=True, description="short captions are worth less, by BLEU's brevity penalty")


class FinetuneParams(Section):
    """Cross-entropy once more, with the encoder's last blocks, on pictures that are drawn anew each time."""

    first: Annotated[str, Field(pattern=r"^block[0-9]+$")] = Field(description="the first of the blocks that learn")
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0, description="of the decoder")
    encoder_rate: float = Field(gt=0, description="of the encoder's blocks")
    warmup_steps: int = Field(ge=0)
    patience: int = Field(ge=1, description="epochs without a better dev score")
    strength: Share = Field(default=1.0, description="of the changes to pictures; 0 leaves them as they are")


class DistillParams(Section):
    """Networks that are trained first, and teach: the candidate learns from what they together think likely, too.

    They go through every phase, and then look at pictures as they are. The candidate has no self-critical training of
    its own.
    """

    teachers: int = Field(ge=1, le=8, description="networks of the candidate's kind, from the seeds after its own")
    share: float = Field(gt=0, le=1, description="of a token's loss: the teachers' say; the rest is the caption's")


class TrainParams(Section):
    seed: int = Field(ge=0)
    objective: Literal["cross-entropy", "scst"] = Field(
        default="cross-entropy", description="scst: cross-entropy first, then the section scst"
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        default="float32", description="of matrix products in training; the rest, and all of decoding, is float32"
    )
    epochs: int = Field(ge=1)
    images_per_batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    bag_of_words: float = Field(
        default=0.0, ge=0, description="weight of a second loss: an image's words, foretold before any is said"
    )
    clip_norm: float = Field(gt=0)
    min_count: int = Field(ge=1, description="rarer words become the unknown word")
    max_words: int = Field(ge=2, description="longer captions are cut, in training and in decoding")
    monitor: Literal["cider", "bleu_4"] = "cider"
    patience: int = Field(ge=1, description="epochs without a better dev score")
    dev_images: int = Field(ge=1, description="images captioned after each epoch")
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the weights' running average; 0 is none")
    views: tuple[View, ...] = Field(
        default=(), description="views of the images beside the plain one; of features.views"
    )
    scst: ScstParams | None = None
    finetune: FinetuneParams | None = None
    distill: DistillParams | None = Field(default=None, description="left out: people's captions alone teach")

    @model_validator(mode="after")
    def _scst_has_its_section(self) -> TrainParams:
        if self.objective == "scst" and self.scst is None:
            raise ValueError("objective is 'scst', but train.scst is missing")
        return self
