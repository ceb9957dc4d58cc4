"""The page, in a real browser, from typing to the verdict."""

import os
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from grm_jax import Judge
from grm_jax.serve import loop as loops
from tests.serve.browser import browser
from tests.serve.live import live, until

HOSTILE = (
    "<img src=x onerror=\\\"document.title='owned'\\\"><script>document.title='owned'</script>"
)


@pytest.mark.slow
def test_votes_arrive_and_hostile_text_stays_text(monkeypatch) -> None:
    """At 400 pixels, light and dark. GRM_PICTURES is a folder for pictures of it."""
    monkeypatch.setattr(loops, "warm_up", lambda *_: None)
    judge = Judge.load("tiny", meta_rm="tiny-meta", slots=8)
    pictures = os.environ.get("GRM_PICTURES")
    with browser() as window, live(judge, k=4) as server:

        def text(selector: str) -> str:
            return window.run(f"return document.querySelector('{selector}').innerText")

        def picture(name: str) -> None:
            if pictures:
                window.picture(Path(pictures, f"{name}.png"))

        window.size(400, 2000)
        window.open(server.url)
        until(lambda: text("#model") == "Model: tiny.")
        window.type("#prompt", "What is 16+50? Be brief and polite.")
        window.type("#response-0", "76")
        window.type("#response-1", "Gladly: 66")
        window.run("document.getElementById('k').value = 4")
        window.click("#judge")
        until(lambda: text("#status") == "Done.")
        cards = window.run(
            "return [...document.querySelectorAll('.vote')].map((c) => [c.className, c.innerText])"
        )
        assert len(cards) == 4
        assert sum("kept" in name for name, _ in cards) == 2, "those that the meta RM rates best"
        assert all("meta RM" in said and "Critique" in said for _, said in cards)
        assert text("#headline") == "Best: B"
        assert window.run("return document.documentElement.scrollWidth") <= 400
        picture("narrow")
        window.size(1000, 1338)
        picture("light")
        light = window.run("return getComputedStyle(document.body).backgroundColor")
        window.dark()
        assert window.run("return getComputedStyle(document.body).backgroundColor") != light
        picture("dark")

        vote = f'{{sample: 9, order: [0, 1], scores: [1, 2], principles: "{HOSTILE}"'
        window.run(f'show_vote({vote}, critique: "{HOSTILE}", meta: null}}, 2)')
        assert "<img" in text("#vote-9")
        assert window.run("return document.title") == "grm serve"
        assert window.run("return document.querySelectorAll('img, main script').length") == 0

        window.run("document.getElementById('k').value = 99")
        window.click("#judge")
        until(lambda: "give 1 to 64" in text("#status"))
        assert [said for said in window.complaints() if "422" not in said] == []
        # The same eyes see what the policy keeps out.
        window.run("document.body.append(new Image()); document.images[0].src = '//127.0.0.1:1/x'")
        until(lambda: any("Content Security Policy" in said for said in window.complaints()))
