"""What requests and answers look like: the OpenAPI document is made of this, with examples."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

ID = "AZr0dTyqS2v8mH1cXo0qYwPZs3n1uV4kQb7e9dLw"


class CaptionModel(BaseModel):
    """One caption. `probability` is the model's, of the whole sentence."""

    caption: str
    log_probability: float | None
    probability: float | None


class ModelModel(BaseModel):
    """Who answered: the version in the registry, the SHA-256 of the artifact."""

    version: str | None
    digest: str | None


class ImageModel(BaseModel):
    """The picture that was captioned, upright."""

    type: str
    width: int
    height: int


class AttentionModel(BaseModel):
    """Where the network looked for each word: weights of the cells of a grid over the picture, row by row."""

    words: list[str]
    rows: int
    columns: int
    weights: list[list[float]]
    looked_away: list[float] = Field(description="for each word, the share that went to no cell")


class CaptionedModel(BaseModel):
    """The answer to a picture."""

    inference_id: str = Field(description="name it when you send feedback; it is good for 30 days")
    caption: str
    log_probability: float | None
    captions: list[CaptionModel] = Field(description="best first")
    variant: str = Field(description="who answered")
    assigned: str = Field(description="who was meant to, when an experiment runs")
    fallback: bool = Field(description="the champion answered because the other one was down")
    override: bool = Field(description="X-Variant chose")
    experiment: str | None
    model: ModelModel
    endpoint_ms: float
    image: ImageModel
    attention: AttentionModel | None = Field(description="with explain=true, when the model can tell")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "inference_id": ID,
                "caption": "a dog runs through the grass",
                "log_probability": -4.1,
                "captions": [
                    {"caption": "a dog runs through the grass", "log_probability": -4.1, "probability": 0.0166},
                    {"caption": "a brown dog runs in a field", "log_probability": -5.3, "probability": 0.005},
                ],
                "variant": "champion",
                "assigned": "champion",
                "fallback": False,
                "override": False,
                "experiment": "2026-11-longer-captions",
                "model": {"version": "7", "digest": "5e" * 32},
                "endpoint_ms": 41.7,
                "image": {"type": "jpeg", "width": 640, "height": 480},
                "attention": {
                    "words": ["a", "dog"],
                    "rows": 2,
                    "columns": 2,
                    "weights": [[0.1, 0.2, 0.3, 0.2], [0.7, 0.1, 0.1, 0.0]],
                    "looked_away": [0.2, 0.1],
                },
            }
        }
    )


class FeedbackIn(BaseModel):
    """What a user says of a caption: a rating, a better caption, or both."""

    rating: int | None = Field(None, ge=1, le=5)
    correction: str | None = Field(None, min_length=1, max_length=300)

    model_config = ConfigDict(json_schema_extra={"example": {"rating": 4, "correction": "a brown dog runs on grass"}})


class FeedbackOut(BaseModel):
    """What was written down."""

    inference_id: str
    rating: int | None
    correction: str | None


class EndpointModel(BaseModel):
    name: str
    status: str | None


class HealthModel(BaseModel):
    """`status` is ok when the endpoint is in service."""

    status: str
    endpoint: EndpointModel
    version: str


class FaultModel(BaseModel):
    code: str
    message: str


class ErrorModel(BaseModel):
    """Every error. With 429 and 503 the header Retry-After says when the same request may be sent again."""

    error: FaultModel

    model_config = ConfigDict(
        json_schema_extra={"example": {"error": {"code": "too_large", "message": "The picture has 5.2 MB; …"}}}
    )


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route."""
    return {status: {"model": ErrorModel, "description": DESCRIPTIONS[status]} for status in statuses}


DESCRIPTIONS = {
    400: "The request, the picture or the address is wrong",
    401: "No key, or an unknown one",
    403: "This key may not choose a variant",
    404: "The id was not given out here",
    408: "The body came too slowly",
    410: "The id is too old",
    413: "Too many bytes or pixels",
    415: "Not a picture",
    422: "The address cannot be fetched, or the feedback says nothing",
    429: "Too many requests",
    503: "The model cannot be asked just now",
    504: "The model did not answer in time",
}

USER_HEADERS = [
    {
        "name": name,
        "in": "header",
        "description": text,
        "schema": {"type": "string", "maxLength": 128},
    }
    for name, text in (
        ("x-user-id", "your own name for the user: the same name meets the same variant; it is hashed at once"),
        ("x-user-token", "of an anonymous user without cookies: what the first answer's header of this name said"),
    )
]

FEEDBACK_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": FeedbackIn.model_json_schema()}},
}

PICTURE_BODY: dict[str, Any] = {
    "required": True,
    "description": "A picture, at most 4 MB and 50 million pixels. Its content decides what it is.",
    "content": {
        **{
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png", "image/webp")
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "string", "format": "binary"}},
                "required": ["image"],
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "image_url": {"type": "string", "description": "an http or https address on the public web"},
                    "image": {"type": "string", "format": "byte", "description": "base64"},
                    "data": {"type": "array", "items": {}, "description": "rows of pixels: the first API's contract"},
                },
            },
            "examples": {
                "url": {"value": {"image_url": "https://example.org/photo.jpg"}},
                "base64": {"value": {"image": "/9j/4AAQSkZJRgABAQ…"}},
                "pixels": {"value": {"data": [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]}},
            },
        },
    },
}
