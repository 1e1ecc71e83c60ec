"""A headless Chromium that a test moves a mouse in: the DevTools protocol through aiohttp."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers run as root
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--use-gl=angle",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",  # the page itself is put together without it, which is faster
    "--remote-debugging-port=0",
)
ALT, CTRL, SHIFT = 1, 2, 8  # modifiers of the protocol


def find() -> str | None:
    """Path of a Chromium or Chrome, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One page in one browser, driven step by step; use it in a `with` block.

    Args:
        folder: for its profile and downloads.
        size: width and height of the window, px.
        flags: more of Chromium's flags.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 800), flags: Sequence[str] = ()) -> None:
        self.folder = folder
        self.size = size
        self.flags = flags
        self.errors: list[str] = []  # uncaught exceptions and console errors
        self.requests: list[str] = []  # addresses that the page asked for
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._count = 0

    def __enter__(self) -> Self:
        program = find()
        assert program, "no Chromium"
        self.folder.mkdir(parents=True, exist_ok=True)
        profile = self.folder / "profile"
        port_file = profile / "DevToolsActivePort"
        port_file.unlink(missing_ok=True)
        command = [program, *FLAGS, *self.flags, f"--window-size={self.size[0]},{self.size[1]}"]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._loop = asyncio.new_event_loop()
        deadline = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().strip()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._loop.close()
                self._end()
                raise AssertionError(f"Chromium did not start, status {self._process.returncode}")
            time.sleep(0.05)
        try:
            self._run(self._connect(port_file.read_text().split()[0]))
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
            self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.folder))
            self.resize(*self.size)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self._close())
        finally:
            self._loop.close()
            self._end()

    def _end(self) -> None:
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # ---- the protocol

    def _run(self, task: Any) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(task, 120))

    async def _connect(self, port: str) -> None:
        self._session = aiohttp.ClientSession()
        pages: list[dict[str, Any]] = []
        while not pages:  # the whole of it has a time limit
            async with self._session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                pages = [page for page in await reply.json() if page["type"] == "page"]
            await asyncio.sleep(0.05)
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            await self._read_all()
        finally:  # whoever waits still, waits in vain
            for answer in self._answers.values():
                answer.cancel("Chromium has gone")

    async def _read_all(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif told["method"] == "Runtime.exceptionThrown":
                details = told["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.errors.append(told["params"]["entry"]["text"])
            elif told["method"] == "Runtime.consoleAPICalled" and told["params"]["type"] == "error":
                self.errors.append(str([argument.get("description") for argument in told["params"]["args"]]))
            elif told["method"] == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"][:200])

    async def _close(self) -> None:
        with suppress(asyncio.CancelledError, ConnectionError):  # it may be gone before it answers
            await self._ask("Browser.close", {})  # rather than a signal, so that it clears up what it made
        await self._socket.close()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._session.close()
        await asyncio.sleep(0.05)

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._count += 1
        answer = self._answers[self._count] = self._loop.create_future()
        await self._socket.send_json({"id": self._count, "method": method, "params": params})
        told = await answer
        assert "error" not in told, f"{method}: {told['error']}"
        return told["result"]

    def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol and its result."""
        return self._run(self._ask(method, params))

    # ---- what a reader does

    def open(self, page: Path, ready: str = "document.documentElement?.dataset.ready") -> float:
        """Load a file, wait until an expression is true, and return the seconds that took."""
        started = time.perf_counter()
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait(ready)
        return time.perf_counter() - started

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"not within {seconds} s: {expression}; {self.errors}"
            time.sleep(0.02)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, awaited."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        """Another window."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone,
            screenWidth=width, screenHeight=height,
        )  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """ "light" or "dark", as the system asks for it."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def mouse(self, kind: str, x: float, y: float, modifiers: int = 0, **more: Any) -> None:
        """A real pointer event: "Moved", "Pressed", "Released" (left button) or "Wheel"."""
        pressed = {"button": "left", "clickCount": 1} if kind in ("Pressed", "Released") else {}
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, modifiers=modifiers, **pressed, **more)

    def click(self, x: float, y: float, modifiers: int = 0) -> None:
        """Move there, press and release."""
        self.mouse("Moved", x, y, modifiers)
        self.mouse("Pressed", x, y, modifiers, buttons=1)
        self.mouse("Released", x, y, modifiers)

    def drag(self, path: Sequence[tuple[float, float]], modifiers: int = 0, pause: float = 0.02) -> None:
        """Press at the first place, move through the others and release at the last."""
        self.mouse("Moved", *path[0], modifiers)
        self.mouse("Pressed", *path[0], modifiers, buttons=1)
        for x, y in path[1:]:
            time.sleep(pause)
            self.mouse("Moved", x, y, modifiers, button="left", buttons=1)
        time.sleep(pause)
        self.mouse("Released", *path[-1], modifiers)

    def busy_drag(self, path: Sequence[tuple[float, float]], modifiers: int = 0, busy: float = 1) -> None:
        """A drag whose events all come while the page does something else for `busy` seconds."""
        kinds = ["Moved", "Pressed", *["Moved"] * (len(path) - 1), "Released"]
        places = [path[0], *path, path[-1]]
        events = []
        for number, (kind, (x, y)) in enumerate(zip(kinds, places, strict=True)):
            button = {"button": "left", "clickCount": 1} if kind != "Moved" else {"button": "left"} if number else {}
            buttons = {"buttons": 1} if 0 < number < len(kinds) - 1 else {}
            events.append({"type": f"mouse{kind}", "x": x, "y": y, "modifiers": modifiers, **button, **buttons})
        wait = f"setTimeout(() => {{ const end = Date.now() + {1000 * busy}; while (Date.now() < end); }}); 0"

        async def all_of_them() -> None:
            await self._ask("Runtime.evaluate", {"expression": wait})
            await asyncio.gather(*[self._ask("Input.dispatchMouseEvent", event) for event in events])

        self._run(all_of_them())

    def key(self, key: str, modifiers: int = 0) -> None:
        """Press and release one key, such as "l" or "ArrowLeft"."""
        text = {"text": key} if len(key) == 1 else {"Enter": {"text": "\r"}}.get(key, {})
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        code = {"windowsVirtualKeyCode": codes[key]} if key in codes else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **text, **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers, **code)

    def screenshot(self, path: Path | None = None) -> bytes:
        """The window as PNG, also written to `path`."""
        picture = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        return picture
