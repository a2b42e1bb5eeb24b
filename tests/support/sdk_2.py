"""The ML SDK 2.x, as far as a model meets it: its base class and its own server. It is published in git only.

What it passes is what matters here: the project's number without its time, an empty context where none came, a new
model for every request, and in /setup whatever ``get("model_version")`` says.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, jsonify, request


def make_base() -> type:
    """The shape of the base class: read-only properties, and no keywords that it does not know."""
    cache: dict[tuple[str, str], str] = {}

    class Base:
        def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
            self.project_id = project_id or ""
            self._label_studio_client = None
            if label_config is not None and self.get("label_config") != label_config:
                self.set("label_config", label_config)
            if not self.model_version:
                self.set("model_version", "0.0.1")
            self.setup()

        def setup(self) -> None:
            pass

        def get(self, key: str) -> Any:
            return cache.get((self.project_id, key))

        def set(self, key: str, value: str) -> None:
            cache[self.project_id, key] = value

        @property
        def label_config(self) -> Any:
            return self.get("label_config")

        @property
        def model_version(self) -> Any:
            return self.get("model_version")

    return Base


def make_server(model_class: Any) -> Flask:
    """The SDK's own server for a model class."""
    app = Flask("sdk-2")

    @app.post("/predict")
    def predict() -> Response:
        data = request.json
        project = str(data.get("project"))
        params = data.get("params", {})
        context = params.pop("context", {})
        model = model_class(project_id=project.split(".", 1)[0], label_config=data.get("label_config"))
        return jsonify({"results": model.predict(data.get("tasks"), context=context, **params)})

    @app.post("/setup")
    def setup() -> Response:
        data = request.json
        model = model_class(project_id=data.get("project").split(".", 1)[0], label_config=data.get("schema"))
        return jsonify({"model_version": model.get("model_version")})

    @app.post("/webhook")
    def webhook() -> Response:
        data = request.json
        event = data.pop("action")
        model = model_class(str(data["project"]["id"]), label_config=data["project"]["label_config"])
        return jsonify({"result": model.fit(event, data), "status": "ok"})

    return app
