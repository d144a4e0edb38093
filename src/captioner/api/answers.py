"""What the API answers, for its OpenAPI document: the shapes, with an example of each."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class CaptionWithProbability(BaseModel):
    caption: str
    log_probability: float
    probability: float = Field(description="of the whole caption, as the model sees it")


class ModelIdentity(BaseModel):
    version: str = Field(description="in the MLflow registry")
    digest: str = Field(description="SHA-256 of the model.tar.gz")


class ImageFacts(BaseModel):
    type: str = Field(description="jpeg, png or webp, by content")
    width: int = Field(description="pixels, upright")
    height: int


class Attention(BaseModel):
    words: list[str]
    rows: int = Field(description="of the grid that the network looks at")
    columns: int
    weights: list[list[float]] = Field(description="for each word, how much each cell counted, row by row")
    looked_away: list[float] = Field(description="for each word, how much of the choice was not looking")


class CaptionAnswer(BaseModel):
    """A caption, and everything that traces it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "inference_id": "19abf3c2d10-5f2d0c9b7a31-0d4c9f6e2b8a7153fae09c44",
                "caption": "a dog runs through the grass",
                "log_probability": -4.21,
                "captions": [
                    {"caption": "a dog runs through the grass", "log_probability": -4.21, "probability": 0.0148}
                ],
                "variant": "champion",
                "assigned": "champion",
                "fallback": False,
                "override": False,
                "experiment": "20261126-140144-3f9c1d",
                "model": {"version": "7", "digest": "4e0a…"},
                "endpoint_ms": 48.2,
                "image": {"type": "jpeg", "width": 500, "height": 375},
                "attention": None,
            }
        }
    )

    inference_id: str = Field(description="names this caption in feedback, logs and `captioner trace`")
    caption: str
    log_probability: float
    captions: list[CaptionWithProbability] = Field(description="best first")
    variant: str = Field(description="which answered")
    assigned: str | None = Field(description="which the experiment chose for this user; null while none runs")
    fallback: bool = Field(description="the champion answered, because the assigned variant could not")
    override: bool = Field(description="a tester chose the variant")
    experiment: str | None
    model: ModelIdentity
    endpoint_ms: float
    image: ImageFacts
    attention: Attention | None = Field(description="with explain=true, where the network looked for each word")


class FeedbackRequest(BaseModel):
    """What a user says of a caption. The last rating and the last correction count."""

    rating: int | None = Field(default=None, ge=1, le=5)
    correction: str | None = Field(default=None, max_length=300, description="a better caption")


class FeedbackAnswer(FeedbackRequest):
    inference_id: str


class Fault(BaseModel):
    code: str = Field(examples=["too_large"])
    message: str = Field(examples=["The picture has 5000000 bytes; 4000000 at most are taken."])


class ErrorAnswer(BaseModel):
    """Every error. With 429 and 503 the header Retry-After says when to try again."""

    error: Fault


class Health(BaseModel):
    status: str = Field(examples=["ok"])
    endpoint: dict[str, Any]
    version: str


JSON_OR_PICTURE = {
    "requestBody": {
        "required": True,
        "description": "A picture: its bytes, a form's field `image`, base64 in JSON, or a URL in JSON.",
        "content": {
            "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "image/webp": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "required": ["image"],
                }
            },
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"type": "object", "properties": {"image_url": {"type": "string"}}, "required": ["image_url"]},
                        {"type": "object", "properties": {"image": {"type": "string"}}, "required": ["image"]},
                        {"type": "object", "properties": {"data": {"type": "array"}}, "required": ["data"]},
                    ]
                },
                "example": {
                    "image_url": "https://upload.wikimedia.org/wikipedia/commons/4/4d/Cat_November_2010-1a.jpg"
                },
            },
        },
    }
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 401, 404, 410, 413, 415, 422, 429, 503)
}
