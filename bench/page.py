"""A page in headless Chromium, controlled through two pipes: paint times and pictures.

    python bench/page.py PAGE.html                                # times of the first paint, of the whole page, and of long pauses
    python bench/page.py PAGE.html --picture PICTURE.png --width 390 --dark

`python bench/run.py page` measures the page of six tasks and 17 models and keeps the times.
"""

import argparse
import base64
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

# Milliseconds since the page was requested; long tasks delay the reader's clicks.
TIMES = """new Promise((resolve) => {
  const done = () => setTimeout(() => {
    const paint = Object.fromEntries(performance.getEntriesByType("paint").map((p) => [p.name, p.startTime]));
    resolve({ first_paint: paint["first-paint"], first_contentful_paint: paint["first-contentful-paint"],
      opening_drawn: performance.getEntriesByName("opening drawn")[0]?.startTime, whole_page: performance.getEntriesByName("whole page drawn")[0]?.startTime });
  }, 300);
  document.documentElement?.dataset.ready === "true" ? done() : addEventListener("ready", done);
})"""


class Browser:
    """One Chromium with one page; requests and console messages are recorded."""

    def __init__(self, width=1280, height=900, dark=False):
        name = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
        if name is None:
            raise SystemExit("no Chromium is installed")
        self.profile = tempfile.TemporaryDirectory()
        (from_us, self.to_browser), (self.from_browser, to_us) = os.pipe(), os.pipe()

        def pipes():
            # Out of the way first: one of the two may be number 3 or 4 already.
            ours = [os.dup(from_us), os.dup(to_us)]
            os.dup2(ours[0], 3)
            os.dup2(ours[1], 4)

        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--disable-background-networking",
                 "--disable-component-update", "--hide-scrollbars", f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen([name, *flags], preexec_fn=pipes, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(from_us)
        os.close(to_us)
        self.buffer, self.last, self.session, self.events = b"", 0, None, []
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Network", "Log"]:
            self.ask(domain + ".enable")
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)
        self.profile.cleanup()

    def message(self):
        while b"\0" not in self.buffer:
            part = os.read(self.from_browser, 1 << 20)
            if not part:
                raise SystemExit("the browser has ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, **params):
        self.last += 1
        own = {"id": self.last, "method": method, "params": params}
        if self.session:
            own["sessionId"] = self.session
        data = json.dumps(own).encode() + b"\0"
        while data:
            data = data[os.write(self.to_browser, data):]
        while True:
            answer = self.message()
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, page):
        self.ask("Page.navigate", url=page if "://" in page else Path(page).resolve().as_uri())

    def run(self, script):
        """The value of a script; promises are awaited."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def complaints(self):
        """Requests other than the page itself, and console messages."""
        said = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:", "blob:", "about:")):
                said.append("request: " + params["request"]["url"])
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                said.append(json.dumps(params)[:400])
        return said

    def picture(self, path, whole=False):
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))


def times(page, n=5):
    """The median of each time, in milliseconds, each from a fresh browser."""
    all_times = []
    for _ in range(n):
        with Browser() as browser:
            browser.open(page)
            all_times.append(browser.run(TIMES))
            said = browser.complaints()
            if said:
                raise SystemExit("\n".join(said))
    return {name: round(statistics.median(t[name] for t in all_times)) for name in all_times[0] if all_times[0][name] is not None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page")
    parser.add_argument("--picture", help="writes what the window shows instead of measuring")
    parser.add_argument("--whole", action="store_true", help="all of the page, not only the window")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--hash", default="", help="what follows # in the address")
    parser.add_argument("--times", type=int, default=5)
    own = parser.parse_args()
    if not own.picture:
        print(json.dumps(times(own.page, own.times)))
        return
    with Browser(own.width, 844 if own.width < 700 else 900, own.dark) as browser:
        browser.open(Path(own.page).resolve().as_uri() + (f"#{own.hash}" if own.hash else ""))
        browser.run(TIMES)
        browser.picture(own.picture, own.whole)
        print("\n".join(browser.complaints()) or "no request, nothing on the console")


if __name__ == "__main__":
    main()
