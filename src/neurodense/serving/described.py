"""What the OpenAPI document says beyond the routes: bodies, answers, examples, problems."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from neurodense.notice import NOTICE
from neurodense.serving.problems import MEDIA_TYPE

_PREDICTION: Final = {
    "type": "object",
    "description": "What `neurodense predict --format json` prints for one picture or study; with `error`, and neither "
    "`label` nor `probabilities`, where it could not be read. Further members depend on the model.",
    "required": ["source"],
    "properties": {
        "source": {"type": "string", "description": "The file as it was named; a slice has its number behind a #."},
        "label": {"type": ["string", "null"], "description": "The class; null where the model abstains."},
        "probabilities": {
            "type": "object",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
            "description": "Of each class; they sum to 1.",
        },
        "notes": {"type": "array", "items": {"type": "string"}},
        "total": {"type": "integer", "description": "Slices that the study has."},
        "slices": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}
_ABOUT: Final = {
    "notes": {"type": "array", "items": {"type": "string"}, "description": "What must be said of the model."},
    "notice": {"type": "string"},
}
_GRID: Final = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
_SLICE: Final = {
    "type": "object",
    "required": ["source", "rows", "columns", "spacing", "window", "pixels", "evidence"],
    "properties": {
        "source": {"type": "string"},
        "rows": {"type": "integer"},
        "columns": {"type": "integer"},
        "spacing": {"type": ["array", "null"], "items": {"type": "number"}, "description": "mm: rows, columns."},
        "window": {
            "type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4,
            "description": "Top, left, bottom, right of what the model saw, as shares of the scan's height and width.",
        },
        "pixels": {"type": "string", "description": "Base64 of rows of little-endian uint16; 65535 is white."},
        "evidence": {
            "type": "object", "additionalProperties": _GRID,
            "description": "For each class: calibrated logits against the classes' mean, on a grid over `window`.",
        },
    },
}  # fmt: skip
_LIST: Final = {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}}
_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457. Without `type` it is about:blank.",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}, "description": "What is wrong with the query."},
        "predictions": _LIST,
    },
}
SCHEMAS: Final[dict[str, Any]] = {
    "Prediction": _PREDICTION,
    "Predictions": {
        "type": "object",
        "required": ["predictions", "notes", "notice"],
        "properties": {"predictions": _LIST, **_ABOUT},
    },
    "Explanations": {
        "type": "object",
        "required": ["explanations", "scale", "notes", "notice"],
        "properties": {
            "explanations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["prediction"],
                    "properties": {
                        "prediction": {"$ref": "#/components/schemas/Prediction"},
                        "slices": {"type": "array", "items": _SLICE},
                    },
                },
            },
            "scale": {
                "type": "object",
                "required": ["full_scale", "colours"],
                "properties": {
                    "full_scale": {"type": "number", "description": "Evidence of the last colour; 0 is the first."},
                    "colours": {"type": "array", "items": {"type": "string"}},
                },
            },
            **_ABOUT,
        },
    },
    "Model": {
        "type": "object",
        "required": ["card", "engine", "precision", "limits", "notes", "notice"],
        "properties": {
            "card": {"type": "object", "description": "The model folder's card.json."},
            "engine": {"type": "string"},
            "precision": {"type": "string"},
            "limits": {"type": "object", "additionalProperties": {"type": "number"}},
            **_ABOUT,
        },
    },
    "State": {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}},
    "Problem": _PROBLEM,
}  # fmt: skip

_ANSWER: Final = {
    "source": "study/IM0001",
    "label": "meningioma",
    "probabilities": {"glioma": 0.031, "meningioma": 0.942, "notumor": 0.008, "pituitary": 0.019},
}
_UNREAD: Final = {
    "source": "letter.pdf",
    "error": {
        "type": "ScanError",
        "message": "letter.pdf is no JPEG, PNG, TIFF, BMP, WEBP, GIF that can be read, whatever its name says.",
    },
}
EXAMPLES: Final[dict[str, Any]] = {
    "Predictions": {"predictions": [_ANSWER, _UNREAD], "notes": [], "notice": NOTICE},
    "State": {"status": "ready"},
}

UPLOAD: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "PNG, JPEG, TIFF, BMP, WebP, GIF, DICOM, NIfTI (.nii, .nii.gz), or a zip of "
                            "such. The content decides, not the name or type. DICOM files of one series whose names "
                            "have the same folder are one study.",
                        }
                    },
                },
                "encoding": {"files": {"contentType": "application/octet-stream"}},
            }
        },
    }
}


def answers(schema: str, description: str, problems: Iterable[HTTPStatus] = (), **other: Any) -> dict[int | str, Any]:
    """The `responses` of a route: its answer, and the problems that it may give beside those of every route.

    Args:
        schema: One of `SCHEMAS`.
        description: Of the answer.
        problems: Statuses.
        other: Media types of the answer beside JSON, `/` written as `_`.
    """
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if schema in EXAMPLES:
        content["application/json"]["example"] = EXAMPLES[schema]
    content |= {kind.replace("_", "/"): {"schema": what} for kind, what in other.items()}
    every = (
        HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.MISDIRECTED_REQUEST,
    )  # fmt: skip
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found: dict[int | str, Any] = {200: {"description": description, "content": content}}
    for status in sorted({*every, *problems}):
        found[int(status)] = {"description": status.phrase, "content": problem}
    return found
