"""The latent explorer as a page in the browser, by Gradio. It sends nothing anywhere else."""

import base64
import html
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from progan.outputs.explorer import Explorer, View
from progan.outputs.latent_space import MOST_CORNERS
from progan.runtime.errors import UserError, brief
from progan.runtime.extras import how_to_install
from progan.runtime.stopping import handled_by

LOOPBACK = ("127.0.0.1", "::1", "localhost")
REACH = 4.0  # of a direction's slider, in standard deviations
# The browser asks this server only, even if a part of the page names another.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
NOT_SERVED = re.compile(r"/gradio_api/(file|upload|proxy|stream|deep_link|component_server|runs)")
STYLE = """
.gradio-container { max-width: 1200px !important; overflow: clip !important; }
#picture { position: sticky; top: 12px; }
#next { align-self: center; height: 42px; padding: 0 12px; white-space: nowrap; }
#picture img { display: block; width: min(100%, 72vh); margin: auto; aspect-ratio: 1;
  image-rendering: pixelated; border-radius: 8px; }
#picture p { text-align: center; margin: 8px 0 0; font-size: var(--text-md); }
#picture .problem { padding: 20vh 8%; }
@media (max-width: 640px) {
  #picture { z-index: 100; top: 0; padding: 8px 0; background: var(--body-background-fill); }
  #picture img { width: min(100%, 42vh); }
}
"""


def view_of(explorer: Explorer, values: dict[str, Any]) -> View:
    """The view that the page's controls describe; those that it lacks have no say.

    Raises:
        UserError: the seeds are none.
    """
    text = str(values["seeds"])
    if not re.fullmatch(r"\s*\d{1,15}(\s*[,\s]\s*\d{1,15})*\s*", text):
        raise UserError(f"seeds are one to {MOST_CORNERS} whole numbers, such as 0, 1, 2, 3")
    seeds = tuple(map(int, re.findall(r"\d+", text)))
    label = values.get("label")
    if label is not None:
        label = tuple(label) if isinstance(label, list) else (label,)
    steps = tuple(float(values[f"step{k}"]) for k in range(len(explorer.names)))
    moment = round(values.get("moment", explorer.start + 1)) - 1
    growth = values.get("growth", explorer.growths[1])
    return View(seeds, values["x"], values["y"], growth, moment, label, steps)


def shown(explorer: Explorer, values: dict[str, Any]) -> str:
    """The picture of a view with a line below it, as HTML; of a mistake, the sentence."""
    try:
        view = view_of(explorer, values)
        data = base64.b64encode(explorer.png(view)).decode()
    except UserError as error:
        return f'<p class="problem" role="alert">{html.escape(str(error))}</p>'
    address = f"data:image/png;base64,{data}"
    caption, file = html.escape(explorer.caption(view)), html.escape(explorer.file_name(view))
    return (
        f'<img src="{address}" alt="{caption}">'
        f'<p>{caption} · <a href="{address}" download="{file}">Save the picture</a></p>'
    )


def next_seeds(text: str) -> str:
    """As many seeds, those that follow."""
    seeds = [int(word) for word in re.findall(r"\d{1,15}", text)] or [-1]
    return ", ".join(str(max(seeds) + 1 + k) for k in range(len(seeds)))


def make_page(explorer: Explorer) -> Any:
    """The page's controls and picture, as Gradio's Blocks."""
    import gradio as gr

    controls: dict[str, Any] = {}
    moves: dict[int, Any] = {}
    with gr.Blocks(title=f"{explorer.name} – progan", analytics_enabled=False) as page:
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300, elem_id="picture"):
                picture = gr.HTML(show_label=False)
            with gr.Column(scale=4, min_width=300):
                with gr.Row(equal_height=True):
                    controls["seeds"] = gr.Textbox(
                        "0, 1, 2, 3", label="Seeds, one to four", scale=3
                    )
                    other = gr.Button("Next seeds", scale=1, min_width=112, elem_id="next")
                controls["x"] = gr.Slider(0, 1, 0, step=0.01, label="Across, to the second seed")
                controls["y"] = gr.Slider(0, 1, 0, step=0.01, label="Down, to the third and fourth")
                controls |= own_controls(explorer)
                if explorer.names:
                    with gr.Accordion("Directions, in standard deviations", open=False):
                        with gr.Row():
                            for k, name in enumerate(explorer.names):
                                slider = gr.Slider(
                                    -REACH, REACH, 0, step=0.1, label=name, min_width=200
                                )
                                controls[f"step{k}"] = moves[k] = slider
                        reset = gr.Button("All to 0")

        def update(*values: Any) -> str:
            return shown(explorer, dict(zip(controls, values, strict=True)))

        how = {"show_progress": "hidden", "api_visibility": "private"}
        inputs = list(controls.values())
        changes = [control.change for control in inputs]
        gr.on([page.load, *changes], update, inputs, picture, trigger_mode="always_last", **how)
        other.click(next_seeds, controls["seeds"], controls["seeds"], **how)
        if explorer.names:
            reset.click(lambda: [0] * len(moves), None, list(moves.values()), **how)
    return page


def own_controls(explorer: Explorer) -> dict[str, Any]:
    """Controls of what this run has: labels, stages, snapshots."""
    import gradio as gr

    controls: dict[str, Any] = {}
    if labels := explorer.first.labels:
        choices = [(name, k) for k, name in enumerate(labels.shown)]
        if labels.kind == "classes":
            controls["label"] = gr.Dropdown(choices, value=0, label="Class")
        else:
            on = labels.values[0].nonzero()[0].tolist()
            controls["label"] = gr.CheckboxGroup(choices, value=on, label="Attributes")
    least, most = explorer.growths
    if most > least:
        title = "Growth: 2 is 4x4, 3 is 8x8, …"
        controls["growth"] = gr.Slider(least, most, most, step=0.05, label=title)
    if (count := len(explorer.files)) > 1:
        title = "Training: its snapshots, oldest first"
        controls["moment"] = gr.Slider(1, count, explorer.start + 1, step=1, label=title)
    return controls


def make_app(explorer: Explorer, host: str) -> Any:
    """The page as an ASGI application that serves no files of this machine but Gradio's own."""
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import PlainTextResponse

    font = ["system-ui", "sans-serif"]  # Gradio's own come from elsewhere
    theme = gr.themes.Default(
        primary_hue="slate", font=font, font_mono=["ui-monospace", "monospace"]
    )
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guarded(request: Any, proceed: Callable[..., Any]) -> Any:
        if NOT_SERVED.match(request.url.path):
            return PlainTextResponse("this page takes and gives no files", 404)
        response = await proceed(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    if host in LOOPBACK:  # or a page elsewhere could ask by a name of its own that leads here
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])
    return gr.mount_gradio_app(
        app,
        make_page(explorer),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        max_file_size=1,
        theme=theme,
        css=STYLE,
    )


@contextmanager
def private_gradio() -> Iterator[None]:
    """Inside, Gradio counts nobody's visits and keeps its files in a folder that goes again.

    Raises:
        UserError: it is not installed.
    """
    with TemporaryDirectory(prefix="progan-explore-") as folder:
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            import gradio  # noqa: F401
        except ModuleNotFoundError:
            raise UserError(f"the page is made by Gradio: {how_to_install('explore')}") from None
        yield


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens at an address; None: at a free port.

    Raises:
        UserError: there is no such address here, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"cannot listen at {host}, port {port or 'any'}: {brief(error)}; leave out --port for "
            "a free one, and --host for this machine alone"
        ) from None


def serve(
    explorer: Explorer, listening: socket.socket, host: str, say: Callable[[str], None]
) -> None:
    """Shows the page until Ctrl-C, SIGTERM, SIGHUP or the like, inside of `private_gradio`.

    Args:
        listening: what `listen` returned.
        host: as the user gave it.
        say: shows a line to the user.
    """
    import uvicorn

    app = make_app(explorer, host)
    name = f"[{host}]" if ":" in host else host
    say(f"open http://{name}:{listening.getsockname()[1]} in a browser; Ctrl-C ends it")
    settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)

    def end(number: int, frame: Any) -> None:
        server.should_exit = True

    # Its own takes Ctrl-C and SIGTERM only, and after a second Ctrl-C complains of the hurry.
    server.handle_exit = end  # type: ignore[method-assign, assignment]
    with handled_by(end):
        server.run(sockets=[listening])
