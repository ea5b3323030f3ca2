"""The routes. What they do is in `service.py`, what stands before them in `shield.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from neurodense import __version__
from neurodense.errors import DataError
from neurodense.inference.card import model_notes
from neurodense.notice import NOTICE
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure
from neurodense.serving import maps
from neurodense.serving.described import SCHEMAS, UPLOAD, answers
from neurodense.serving.direct import Direct
from neurodense.serving.drawing import png_of
from neurodense.serving.files import page_files
from neurodense.serving.problems import Problem
from neurodense.serving.service import Service, outcome
from neurodense.serving.shield import Shield
from neurodense.serving.uploads import read_files

_SENT = (
    HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)  # fmt: skip

SlicesQuery = Annotated[
    str,
    Query(
        description="Slices of a volume or series to look at, numbered from 1.",
        pattern=r"^(brain|all|middle|every:[1-9][0-9]{0,5}|range:[1-9][0-9]{0,5}-[1-9][0-9]{0,5})$",
        examples=["brain", "every:5", "range:40-90"],
    ),
]


def build(service: Service, token: str | None = None, *, local: bool = True) -> Shield:
    """The ASGI application.

    Args:
        service: The loaded model; closed when the application shuts down.
        token: See `Shield`.
        local: See `Shield`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="neurodense",
        version=__version__,
        description=f"From a brain MRI image to a tumour class. {NOTICE}",
        docs_url=None,  # these pages load their scripts from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    _say_problems(app)
    predict = _predicting(app, service)
    _watching(app, service)
    _page(app)
    _describe(app, secured=token is not None)
    (route,) = (one for one in app.routes if isinstance(one, Route) and one.endpoint is predict)
    return Shield(Direct(app, route, predict), service.metrics, token, local=local)


def _predicting(app: FastAPI, service: Service) -> Callable[[Request], Awaitable[Response]]:
    """Add the routes, and give what answers `/v1/predict`."""
    predictor = service.predictor
    about: dict[str, Any] = {"notes": model_notes(predictor.card), "notice": NOTICE}

    @app.post(
        "/v1/predict",
        summary="Name the class of each image or study",
        responses=answers("Predictions", "An answer for each image or study.", _SENT),
        openapi_extra=UPLOAD,
    )
    async def predict(request: Request, slices: SlicesQuery = "brain") -> Response:
        chosen = _slices(slices)
        async with service.admitted() as share:
            files = await read_files(request, service.limits, share)
            results = await service.answers(files, chosen, share)
        body = {"predictions": outcome(results), **about}
        if all(isinstance(one, Failure) for one in results):
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "No file could be read as an image.", **body)
        return JSONResponse(body)

    @app.post(
        "/v1/explain",
        summary="Show what speaks for each class, and where",
        description="JSON with pixels and evidence as arrays, or, where `Accept` prefers image/png and one slice is "
        "looked at, a picture of the heat map.",
        responses=answers(
            "Explanations",
            "An explanation for each image or study.",
            (*_SENT, HTTPStatus.NOT_ACCEPTABLE),
            image_png={"type": "string", "format": "binary"},
        ),
        openapi_extra=UPLOAD,
    )
    async def explain(
        request: Request,
        slices: SlicesQuery = "brain",
        label: Annotated[str | None, Query(description="Class of the picture; the most probable if left out.")] = None,
        side: Annotated[int, Query(ge=32, le=1024, description="Pixels of the longer side of what JSON has.")] = 512,
    ) -> Response:
        chosen = _slices(slices)
        as_png = _prefers_png(request.headers.get("accept", "*/*"))
        if label is not None and label not in predictor.card.classes:
            known = ", ".join(predictor.card.classes)
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"The model knows no such class; it knows {known}.")
        async with service.admitted() as share:
            files = await read_files(request, service.limits, share)
            if as_png:
                results = await service.answers(files, chosen, share, lambda scan: scan)
                return Response(await png_of(results, service, label), media_type="image/png")
            results = await service.answers(files, chosen, share, lambda scan: maps.picture(scan, predictor, side))
            explained = [maps.as_dict(one, predictor) for one in results]
        if all(isinstance(one, Failure) for one in results):
            detail = "No file could be read as an image."
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, predictions=outcome(results), **about)
        return JSONResponse({"explanations": explained, "scale": maps.scale(), **about})

    @app.get("/v1/model", summary="Say what the model is", responses=answers("Model", "The model's card."))
    async def model() -> Response:
        card = predictor.card.model_dump(mode="json")
        limits = asdict(service.limits)
        return JSONResponse(
            {"card": card, "engine": predictor.engine, "precision": predictor.precision, "limits": limits, **about}
        )

    return predict


def _watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Say that the process runs", responses=answers("State", "It runs."))
    async def healthz() -> Response:
        return JSONResponse({"status": "alive"})

    @app.get(
        "/readyz",
        summary="Say whether requests are taken",
        responses=answers("State", "They are.", (HTTPStatus.SERVICE_UNAVAILABLE,)),
    )
    async def readyz() -> Response:
        if service.stopping:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The service is stopping.")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", summary="Give figures to Prometheus", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        content, kind = service.metrics.text(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": kind})


def _page(app: FastAPI) -> None:
    """Files of the page, by names that are known beforehand: no path that a client sends is opened."""
    for path, file in page_files().items():
        app.add_api_route(path, file.answer, methods=["GET"], include_in_schema=False)


def _slices(text: str) -> Slices:
    try:
        return Slices.parse(text)
    except DataError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, error.message) from None


def _prefers_png(accept: str) -> bool:
    """Of JSON and PNG, which comes first in `Accept`; JSON where both or neither do.

    Raises:
        Problem: 406, it allows neither.
    """
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    for kind in kinds:
        if kind in ("application/json", "application/*", "*/*", ""):
            return False
        if kind in ("image/png", "image/*"):
            return True
    raise Problem(HTTPStatus.NOT_ACCEPTABLE, "An explanation is application/json or image/png.")


def _say_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def said(request: Request, problem: Problem) -> Response:
        return problem.response()

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        detail = HTTPStatus(error.status_code).description or HTTPStatus(error.status_code).phrase
        return Problem(error.status_code, detail, error.headers).response()

    @app.exception_handler(Exception)  # the shield writes it to the log
    async def of_ours(request: Request, error: Exception) -> Response:
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed on this request.").response()

    @app.exception_handler(RequestValidationError)
    async def of_query(request: Request, error: RequestValidationError) -> Response:
        wrong = [{"where": ".".join(map(str, one["loc"])), "message": one["msg"]} for one in error.errors()]
        detail = "; ".join(f"{one['where']}: {one['message']}" for one in wrong)
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=wrong).response()


def _describe(app: FastAPI, *, secured: bool) -> None:
    """Put the schemas that are no pydantic models into the document, and the token where one is needed."""
    document = app.openapi()
    components = document.setdefault("components", {})
    components["schemas"] = SCHEMAS
    if secured:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, routes in document["paths"].items():
            for route in routes.values() if path.startswith("/v1/") else ():
                route["security"] = [{"token": []}]
