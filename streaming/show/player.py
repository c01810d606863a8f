"""The generator of a show: opened from the arguments, and opened again with its scene if every engine has failed."""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import BundleError, EngineError, Generator
from runtime.chain import Chain, FrameSource
from runtime.engines.table import count_cores
from runtime.hole import Hole
from runtime.marking.frame_marker import FrameMarker
from runtime.prompts.images import load_image
from streaming.control.controller import ShowController
from streaming.control.cues import PARTS, to_given, to_label
from streaming.inputs.live_input import LiveInput
from streaming.inputs.page_camera import PAGE, PageCamera
from streaming.output.pacing import Clock, Pacer
from streaming.painting.opening import Painting, check_painting
from streaming.shipped import find_areas, find_shipped
from streaming.show.adaptation import Adaptation
from streaming.show.bundle_change import BundleChange
from streaming.show.early_clip import begin_clip
from streaming.show.fallback import FallbackFrames, load_fallback
from streaming.show.first_prompt import first_prompt
from streaming.show.keeping import ShowKeeper
from streaming.show.position import go_to
from streaming.sinks.sink import Picture
from streaming.sound.sound import INPUT, Sound

if TYPE_CHECKING:
    from streaming.show.presenter import Presenter

TEST_CARD = "testcard"  # the live input that shows nobody
_INPUT_S = 15.0  # for an input's first frame


class Player:
    """Makes the frames of a show; a context manager.

    Args:
        options: as `streaming.arguments.parse` returns them.
        bundle: folder of the bundle.
        controller: controls the generator from now on, and is closed with it.
        say: called with one line for each event.
        sound: of the show; None for silence. It begins with the first frame.
        mark: payload that all frames carry; None for no mark.
        keeper: knows where to go on from; frames then follow the clock. None for a show that lives in this process.

    Attributes:
        generator: makes the frames now.
        bundle: folder of the bundle on air, the first one of a chain.

    Raises:
        BundleError, EngineError, ValueError: the bundle, the engine, a prompt, a control or a cue is bad.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        bundle: Path,
        controller: ShowController,
        say: Callable[[str], None],
        sound: Sound | None = None,
        mark: int | None = None,
        keeper: ShowKeeper | None = None,
    ) -> None:
        self._options, self.bundle, self._controller, self._say = options, bundle, controller, say
        self._sound, self._mark, self._follows_clock = sound, mark, keeper is not None
        self._going_on = None if keeper is None else keeper.position
        self._change: BundleChange | None = None
        self._change_lock, self._is_closed = threading.Lock(), False
        if sound is not None:
            controller.others.append(sound)
        self._fallback: FallbackFrames | None = None
        self._input: LiveInput | None = None
        self._hole: Hole | None = None
        self._pacer: Pacer | None = None
        self._presenter: Presenter | None = None
        self._painting: Painting | None = None
        self._early_clip = begin_clip(options, bundle)
        with contextlib.ExitStack() as stack:
            if self._early_clip is not None:
                stack.callback(self._early_clip.close)
            self.generator = self._open(bundle)
            stack.pop_all()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def engine(self) -> str:
        """Name and precision of the engine, to be shown."""
        if self._fallback is not None and not self._fallback.is_up:
            return "none: the fallback picture is shown"
        generator = self.generator
        ahead = ", one frame ahead" if self._pacer is not None and self._pacer.num_ahead else ""
        detail = "" if generator.detail == "full" else ", half the detail"
        return f"{generator.engine} {generator.precision}{ahead}{detail}"

    @property
    def link_ms(self) -> dict[str, float]:
        """Name of each bundle of a chain -> its milliseconds per frame; empty without --then."""
        return self.generator.link_ms if isinstance(self.generator, Chain) else {}

    @property
    def repeated(self) -> int:
        """How many frames were repeated because of --skip-similar."""
        return self.generator.links[0].skipped if isinstance(self.generator, Chain) else self.generator.skipped

    @property
    def coming(self) -> tuple[FrameSource, Path]:
        """The generator that plays or fades in, and the folder of its bundle; for the show's thread."""
        change = self._change
        return (
            (self.generator, self.bundle) if change is None or not change.has_begun else (change.after, change.bundle)
        )

    def frames(self, pacer: Pacer, clock: Clock) -> Iterator[Picture]:
        """Return the show's frames; with --fallback they never end.

        Raises:
            ValueError: the fallback picture cannot be read.
        """
        generator, self._pacer = self.generator, pacer
        if self._options.fallback is None:
            return self._play(pacer)
        size = (generator.width, generator.height)
        picture = load_fallback(self._options.fallback, *size, self._options.pixels)
        if self._mark is not None:
            picture = FrameMarker.of_payload(self._mark, *size, self._options.pixels)(picture)

        def reopen() -> Iterator[Picture]:
            self._reopen()
            return self._play(pacer)

        self._fallback = FallbackFrames(self._play(pacer), picture, reopen, clock, self._say)
        return self._fallback

    def go_on(self, slot: int) -> None:
        """Go on at a slot of a show that another process began.

        Raises:
            EngineError: the engine failed.
            ValueError: the position is of another bundle.
        """
        assert self._going_on is not None, "this show begins"
        go_to(self.generator, self._going_on.generator, slot)

    def change_bundle(self, bundle: Path, dissolve_s: float) -> None:
        """Open another bundle in the background and cross-fade to it; may be called from any thread.

        The prompt on air is kept if the other bundle takes it, and so are the controls that it has too.

        Args:
            bundle: its folder; its frames must have the size and the rate of those on air.
            dissolve_s: length of the cross-fade in seconds, 0 to 3600.

        Raises:
            BundleError, EngineError, ValueError: it cannot be opened or does not fit; the show goes on as it is.
        """
        if self._presenter is not None or self._hole is not None:
            raise ValueError("a show with --matte or a mask keeps its bundle: stop it and start it with the other one")
        if self._change is not None:
            raise ValueError("another bundle fades in just now: try again when it is on air")
        before = self.generator
        change = BundleChange.prepare(before, self._open(bundle), bundle, self._controller, dissolve_s)
        with self._change_lock:
            if self.generator is before and not self._is_closed:
                self._change = change
                return
        change.close()
        raise ValueError("the show ended, or opened its engine again, in the meantime: try again")

    def close(self) -> None:
        """Wait for the scene that is being prepared, and free the engine."""
        with self._change_lock:
            self._is_closed = True
        with contextlib.ExitStack() as stack:  # the last one first; the rest even if one fails
            if self._presenter is not None:
                stack.callback(self._presenter.close)
            if self._input is not None:
                stack.callback(self._input.close)
            stack.callback(self._controller.close)
            if self._painting is not None:  # before the controller, which waits for its pictures
                stack.callback(self._painting.close)
            if self._hole is not None:
                stack.callback(self._hole.close)
            if self._change is not None:
                stack.callback(self._change.close)
            stack.callback(self.generator.close)  # early: it ends what the controller waits for
            if self._early_clip is not None:
                stack.callback(self._early_clip.close)
            if self._fallback is not None:
                stack.callback(self._fallback.close)

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        generator, options = self.generator, self._options
        self._open_presenter()
        self._open_hole()
        if check_painting(options, generator.manifest) is not None:
            self._painting = Painting(options, generator.manifest, self._controller, self._say)
        self._controller.attach(generator, "")
        for name, value in options.control:
            self._controller.check_control(name, value)
        self._open_input()
        names, begins_s = [scene.name for scene in generator.manifest.scenes], Fraction(0)
        if self._going_on is not None:
            begins_s = max(begins_s, Fraction(time.time() - self._going_on.began_s))
        prompt, in_turn, next_s = first = first_prompt(options, generator.manifest.name, names, begins_s)
        if self._presenter is not None and first.is_live:
            raise ValueError("--image input shows the whole picture of the input: leave it or --matte out")
        if self._painting is not None and (begun := self._painting.begin(prompt, generator)) is not prompt:
            prompt, in_turn = begun, ()
        if self._input is not None and first.is_live:
            generator.condition(**{**prompt, "image": self._input.wait_picture(_INPUT_S)})
        elif prompt.keys() == {"clip"} and self._early_clip is not None:
            generator.condition(clip=self._early_clip.first())
        elif prompt:
            generator.condition(**to_given(prompt))
            if (scene := generator.scene) is not None and scene.clip is not None:
                self._say(f"{Path(prompt['clip']).name}: {scene.clip.summary}")
            elif scene is not None and scene.note:
                self._say(scene.note)
        for name, value in options.control:  # after the prompt: one for the seed then keeps its text
            self._controller.set_control(name, value)
        seed = generator.manifest.default_seed if options.seed is None else options.seed
        self._controller.attach(generator, to_label({**prompt, "seed": seed}), prompt.get("scene") or "")
        self._controller.announce(prompt or {"seed": seed})
        self._controller.schedule(options.cue, dissolve_s=options.dissolve, say=self._say)
        is_seen = options.behind in (None, "show")
        if in_turn and is_seen and not any(cue.kind in PARTS for cue in options.cue):
            self._controller.cycle(in_turn, options.every, next_s)
        if self._going_on is not None:
            self._controller.list_again(self._going_on.cues)
        if self._painting is not None:
            self._painting.ask()
        is_live = generator.has_live_input or first.is_live
        if is_live and self._presenter is None and options.input != TEST_CARD:
            self._controller.warn_of_people()

    def _open_presenter(self) -> None:
        options = self._options
        if options.matte is None:
            for name in ("mirror", "behind", "away"):
                if getattr(options, name):
                    raise ValueError(f"--{name} is for the person of --matte: add --matte BUNDLE")
            return
        if options.input is None:
            raise ValueError("--matte cuts a person out of a live input: add --input webcam, a file or an address")
        from streaming.show.presenter import Presenter

        self._presenter = Presenter(options, self.generator, self._controller, self._threads(), self._say, self._mark)

    def _open_hole(self) -> None:
        if self._options.mask is not None or self.generator.takes_mask:
            self._hole = self._fresh_hole(self.generator)

    def _fresh_hole(self, generator: FrameSource) -> Hole:
        what = self._options.mask
        if what is not None and not Path(what).is_file():
            what = find_shipped(Path(what))
        hole = generator.open_hole(what, engine=self._options.engine, threads=self._threads())
        hole.tell(self._say)
        return hole

    def _open_input(self) -> None:
        generator, options = self.generator, self._options
        # What uses the pictures: the composite, else the first bundle of a chain.
        user = generator.links[0] if isinstance(generator, Chain) and self._presenter is None else generator
        size, is_fed = (user.width, user.height), generator.has_live_input
        if options.input is None:
            if is_fed:
                raise ValueError(
                    f"{generator.manifest.name} needs a live input: add --input webcam, "
                    "--input testcard, or a file or an address"
                )
            return
        if not is_fed and self._presenter is None and "image" not in generator.takes:
            raise ValueError(f"{generator.manifest.name} takes no pictures: leave --input out")
        stand_in = None if options.fallback is None else load_image(options.fallback, *size)
        on_sound = self._sound.write if self._sound is not None and options.sound in (INPUT, PAGE) else None
        if options.input == PAGE:  # which comes and goes
            self._input = self._controller.input = PageCamera(*size, stand_in=stand_in, on_sound=on_sound)
        else:
            self._input = self._controller.input = LiveInput(options.input, *size, stand_in=stand_in, on_sound=on_sound)
        if self._presenter is not None:
            self._presenter.follow(self._input)
        if options.input != PAGE and (is_fed or self._presenter is not None):
            self._input.wait_picture(_INPUT_S)

    def _play(self, pacer: Pacer) -> Iterator[Picture]:
        """Yield frames; each uses the live input's latest frame and the cues that are due."""
        latest, painted, adaptation = None, None, Adaptation(pacer, self._say)
        fed: tuple[FrameSource, ...] = ()
        while True:
            change = self._change  # another thread sets it
            makers = (self.generator,) if change is None else (change.before, change.after)
            source = self._input if self.generator.has_live_input else None
            strokes = None if self._hole is None else self._hole.strokes
            if source is not None and (
                (frame := source.frame()) is not latest or strokes is not painted or makers != fed
            ):
                for generator in makers:
                    generator.feed_live(frame)
                latest, painted, fed = frame, strokes, makers
            if self._sound is not None and pacer.next_slot:
                self._follow(self._sound, pacer)
            now_s = pacer.next_slot / pacer.fps
            self._controller.play(now_s)
            if self._early_clip is not None and (line := self._early_clip.news()):
                self._say(line)
            if self._options.adapt == "on":
                adaptation.update(self.generator)
            if self._follows_clock:
                self._catch_up(pacer)
            if change is not None:
                yield self._changing(change)
            elif self._presenter is None or self._input is None:
                yield next(self.generator)
            else:
                yield self._presenter.frame(self.generator, self._input, now_s)

    def _catch_up(self, pacer: Pacer) -> None:
        """Leave out the frames of slots that were dropped, so that a frame's number is that of its slot."""
        behind = pacer.next_slot - self.generator.frame_index
        if behind > 0 and not self.generator.has_live_input:
            self.generator.skip(min(behind, round(pacer.fps)))

    def _changing(self, change: BundleChange) -> Picture:
        """Return the next frame while another bundle fades in, and take it over at the end."""
        picture = change.frame()
        if change.is_over:
            self.generator, self.bundle, self._change = change.after, change.bundle, None
            self._say(f"{change.after.manifest.name}: {change.bundle} is on air")
        return picture

    def _leave_out(self, change: BundleChange) -> None:
        """Stay with the bundle on air, as an engine has failed while another one faded in."""
        self._change = None
        self._controller.attach(self.generator, "")
        self._controller.prepare_again([scene.name for scene in self.generator.manifest.scenes])
        with contextlib.suppress(EngineError):  # freeing a failed engine may fail too
            change.close()
        self._say(f"{change.bundle} is left out: an engine failed while it faded in")

    def _follow(self, sound: Sound, pacer: Pacer) -> None:
        """Let the sound begin with the show's first frame, and measure its levels."""
        if not sound.has_begun:
            sound.begin(float(pacer.deadline(0)))
        sound.follow()

    def _threads(self) -> int | None:
        share, cores = self._options.cpu_share, count_cores()
        return None if share is None else max(1, min(cores, int(share if share > 1 else cores * share)))

    def _open(self, bundle: Path) -> FrameSource:
        options = self._options
        how: dict[str, Any] = {
            "engine": options.engine,
            "precision": options.precision,
            "pixels": options.pixels,
            "seed": options.seed,
            "trust_engines": options.trust_engines,
            "size": options.size,
            "threads": self._threads(),
            "fps": None if options.fps is None else float(options.fps),
            "areas": find_areas(options.areas),
            "mark": self._mark if options.matte is None else None,  # else the presenter marks what is shown
        }
        generator: FrameSource
        if options.then:
            generator = Chain.open([bundle, *(find_shipped(Path(then)) for then in options.then)], **how)
            if options.fallback is None:  # which is shown until all links are back
                generator.on_left_out = self._tell_left_out
        else:
            generator = Generator.open(bundle, **how)
        generator.on_fall_back, generator.fit = self._say, options.fit
        if options.skip_similar is not None:
            _skip_similar(generator, options.skip_similar)
        return generator

    def _tell_left_out(self, sentence: str) -> None:
        self._say(sentence)
        self._controller.attach(self.generator, "")  # its controls are gone

    def _reopen(self) -> None:
        """Open the generator again with the scene and the controls of the one that failed, and free that one."""
        if self._change is not None:
            self._leave_out(self._change)
        failed, fresh = self.generator, self._open(self.bundle)
        try:
            if _hashes(fresh) != _hashes(failed):
                folders = " or ".join([str(self.bundle), *self._options.then])
                raise BundleError(f"{folders} was changed during the show: put the old bundle back")
            if (failed_hole := self._hole) is not None:  # whose network may have failed
                self._hole = self._fresh_hole(fresh)
                self._hole.strokes = failed_hole.strokes
                with contextlib.suppress(EngineError):
                    failed_hole.close()
            if failed.scene is not None:
                fresh.take(failed.scene, dissolve_s=0.0)
            for name, value in failed.controls.items():
                control = failed.manifest.controls.get(name)
                if control is None or control.target != "seed":  # which the scene has
                    fresh.set_control(name, value)
        except BaseException:
            fresh.close()
            raise
        self.generator = fresh
        self._controller.attach(fresh, "")
        with contextlib.suppress(EngineError):  # freeing a failed engine may fail too
            failed.close()


def _skip_similar(generator: FrameSource, threshold: float) -> None:
    """Repeat the first link's frame while its live input is nearly still; the generator is closed if it cannot."""
    first = generator.links[0] if isinstance(generator, Chain) else generator
    try:
        first.skip_similar = threshold
    except ValueError:
        generator.close()
        raise


def _hashes(generator: FrameSource) -> list[str]:
    """Return the hashes of the bundles."""
    links = generator.links if isinstance(generator, Chain) else (generator,)
    return [link.manifest.sha256 for link in links]
