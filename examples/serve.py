"""Serve a rationale model over HTTP, for many clients at once.

    pip install fastapi uvicorn
    MODEL=outputs/quickstart uvicorn --app-dir examples serve:app --port 8000
    curl localhost:8000/explain -H "Content-Type: application/json" -d '{"text": "the aroma is rotten and stale ."}'

Requests that arrive at the same time are computed in one batch. Bodies and texts that are too long are refused, and so
are requests beyond what the queue holds. Clients never see a traceback.
"""

import asyncio
import os
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from transformers import pipeline

import hf_rationale  # noqa: F401  registers the models and the pipeline
from hf_rationale.explain import explain_texts


MAX_BODY = 1_000_000  # bytes
MAX_TEXT = 100_000  # characters
MAX_BATCH = 32
MAX_WAITING = 1024  # requests


class Text(BaseModel):
    text: str = Field(max_length=MAX_TEXT)
    query: str | None = Field(default=None, max_length=MAX_TEXT)


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.pipe = pipeline("rationale-classification", model=os.environ["MODEL"])
    app.state.waiting = asyncio.Queue(MAX_WAITING)
    batches = asyncio.create_task(compute_batches(app))
    yield
    batches.cancel()


async def compute_batches(app: FastAPI):
    """One batch after the other, of what waits by then."""
    while True:
        jobs = [await app.state.waiting.get()]
        while len(jobs) < MAX_BATCH and not app.state.waiting.empty():
            jobs.append(app.state.waiting.get_nowait())
        texts, answers = zip(*jobs, strict=True)
        try:
            results = await asyncio.to_thread(explain_texts, app.state.pipe, texts, MAX_BATCH)
        except Exception as error:
            results = [error] * len(jobs)
        for answer, result in zip(answers, results, strict=True):
            if not answer.done():  # the client may have gone
                answer.set_result(result)


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def refuse_long_bodies(request: Request, call_next):
    length = request.headers.get("content-length")
    if length is None or not length.isdigit():
        return JSONResponse({"detail": "The header Content-Length is missing."}, 411)
    if int(length) > MAX_BODY:
        return JSONResponse({"detail": f"The body has more than {MAX_BODY} bytes."}, 413)
    return await call_next(request)


@app.exception_handler(Exception)
async def hide_the_traceback(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The server has failed. The log says why."}, 500)


@app.exception_handler(RequestValidationError)
async def name_the_fields(request: Request, error: RequestValidationError) -> JSONResponse:
    """Without the input, which FastAPI would repeat, and which may not be valid Unicode."""
    return JSONResponse({"detail": [{"loc": one["loc"], "msg": one["msg"]} for one in error.errors()]}, 422)


@app.post("/explain")
async def explain(body: Text) -> dict[str, Any]:
    answer = asyncio.get_running_loop().create_future()
    text = body.text if body.query is None else {"text": body.query, "text_pair": body.text}
    try:
        app.state.waiting.put_nowait((text, answer))
    except asyncio.QueueFull:
        raise HTTPException(503, "Too many requests are waiting. Try again later.") from None
    result = await answer
    if isinstance(result, Exception):
        raise result
    if "error" in result:
        raise HTTPException(422, result["error"])
    return result
