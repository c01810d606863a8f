"""The help text of `python -m streaming`."""

from __future__ import annotations

DESCRIPTION = """\
Stream endless video from a trained generator, live, to one or more sinks.

sinks:
{sinks}
"""
EPILOG = """\
examples:
  python -m streaming
      the bundle that ships with the project, on a page at
      {page}
  python -m streaming bundles/landscape --image photo.jpg --to clip.mp4 \\
          --seconds 20
      animate a photo and record it for 20 seconds
  python -m streaming bundles/landscape --clip holiday.mp4 --to longer.mp4
      play a video on for ever, with its own frames
  python -m streaming bundles/landscape --text "calm sea" \\
          --cue 20:text="storm clouds" --cue 20:wind_x=0.5 \\
          --cue 60:image=photo.jpg --dissolve 3
      change the weather after 20 seconds, and the place after a minute
  python -m streaming bundles/mine --to rtmp://live.twitch.tv/app/KEY \\
          --preset twitch --to night.mkv
      a live stream, recorded at the same time
  python -m streaming --to night.mp4 --sign keys --ledger shows.sqlite
      a recording that says how it was made, and a line in a log of your shows
  python -m streaming --to webcam --to {page}
      a camera for video calls, and a page to watch and control it
  python -m streaming --to - | ffplay -f rawvideo -pixel_format yuv420p \\
          -video_size WIDTHxHEIGHT -framerate FPS -
      raw frames for another program; the first line of the show has the size
      and the frame rate

prompts:
  --image animates a picture, and --text describes the scene in English.
  --clip plays a video or an animated GIF on for ever with its own frames: it
  jumps between moments that look alike, or fades from its end into its
  beginning where none do, and one line says what was done. The controls motion
  (speed) and variety (how readily it jumps) change it. About 6 s of 1280 x 720
  are kept, the first part of the video without a cut. The first 2 s are shown
  while the rest is read; the line comes afterwards. --past goes on from the
  last frames of a video, with the network's motion. Other bundles than those
  of schema 2 treat --clip as --past. A bundle takes some of these, alone or
  together, and decides how they combine. The shipped landscape uses the text
  only without an image or past. With an image and a past, the past sets the
  motion of the image; both should show the same place. Without a prompt the
  bundle's scenes follow one another (--every); without scenes, or with --seed,
  the seed decides. --moving says what of the picture may move. --hint draws an
  arrow: --hint 0.5,0.3,0,0.2 lets what is in the middle, a third from the top,
  fall by a fifth of the height in a second. --hints reads arrows and brushes
  that were saved on the page. A scene with drawn motion keeps its picture. A
  scene from a seed or a text changes over time as the bundle specifies; a scene
  from an image, a clip or a past stays.

pictures from words:
  --scene-from BUNDLE paints the pictures of texts and seeds in a process of
  its own while the show goes on with what it has; then it dissolves to the
  picture and animates it. BUNDLE is one whose frames depend on a text or a
  seed, e.g. an imported text-to-image model. --scene-every SECONDS paints the
  same text with the next seed, as long as the show runs. Controls of BUNDLE
  have painter. in front of their names. It paints with what cores the show and
  other programs leave it: where they use all cores, a picture takes long.

live input:
  --input webcam, webcam:DEVICE, page, testcard, a video file, or an address
  that FFmpeg opens (rtsp://, http://, rtmp:// ...). A file is repeated. With
  page, a browser that has the page open is the camera, e.g. that of a phone;
  the show begins without it. --image input animates the picture at the start
  of the show, --cue SECONDS:image=input the picture at that time, and the page
  or its API the current picture. A bundle with a live input, such as an
  imported one, gets every frame. If the input fails, its last frame is shown;
  after five seconds the --fallback picture, or black. It is reopened until it
  works again.
  --matte puts the person of the input over the show, at matte.x and matte.y, as
  large as matte.size says. A clip of --behind is repeated; what is behind may
  be changed on the page. While the input is lost, nobody is shown. The whole
  picture of the input is not shown with --matte, so --image input is refused.

sound:
  --sound mic, mic:DEVICE (its number or part of its name), a file, which is
  repeated, or an address. --sound input is the sound of the file or address of
  --input, in step with its picture. Without --sound, live streams are silent
  and recordings have no sound. Recordings, RTMP, SRT and HLS get AAC, WHIP and
  the page Opus. The controls sound.gain and sound.mute, and a meter, are on the
  page. If the source fails, there is silence until it works again. If the
  sound is ahead of a camera's picture, make --sound-delay longer.

chains:
  --then BUNDLE feeds each frame of the show into the live input of the next
  bundle, e.g. an imported model that changes pictures; several make a longer
  chain. Prompts, --input and the frame rate are the first bundle's; the size of
  the frames is the last one's. The controls of a later bundle are called
  NAME.CONTROL, with -2, -3 ... behind the NAME of a bundle that occurs again. A
  later bundle that fails in every engine is left out; with --fallback, the
  fallback picture is shown until all bundles are back.

cues:
  --cue SECONDS:KIND=VALUE changes the show at that time. KIND is text, image,
  clip, past, seed, scene or hints, or the name of a control. Hints alone change
  the motion of the scene on air. Cues for the same time are one prompt; a seed
  alone keeps the text. A prompt is prepared in the background, when the one
  before it has faded in or 2 s before it is due (a clip 10 s before), and fades
  in over --dissolve seconds.
  Cues are checked before the show as far as possible. A cue that fails during
  the show, e.g. because its file is gone, is left out and reported in one
  line.

played like an instrument:
  --map CONTROL=SOURCE lets a control follow the sound from frame to frame.
  SOURCE is audio.level, audio.bass, audio.middle, audio.high or audio.onset,
  also with a range: motion=audio.bass:0.2..1.5. While the source moves, it wins
  over the page.
  --osc PORT receives OSC: /everframe/control/NAME value, /everframe/text,
  /everframe/seed, /everframe/scene, /everframe/cue/take N, /everframe/take and
  /everframe/dissolve S. --osc-out HOST:PORT sends the controls, the levels and
  what is on air. --midi with --midi-map plays it with a MIDI controller; see
  examples/midi-map.toml. docs/control.md has all addresses and keys.

marks:
  Every frame carries a mark that is not seen: 48 bits that are the same for the
  whole show, in the brightness of all pixels. `everframe verify FILE` reads it,
  also after encoding, scaling and cropping, and so tells that the video was
  made by a generator. Article 50 of the EU AI Act asks for such a marking. The
  bits are random, or those of --mark-payload, and are shown at the beginning
  and at the end of the show. With --no-mark frames carry none: nobody can find
  out from them that they are generated, and whoever publishes them has to say
  so in another way. A mark takes 1 to 2.5 ms of a frame of 1280 x 720 on two
  cores (OpenVINO).

frame rate:
  Frame k is due k / fps seconds after the first, and one interval later once
  frames are made ahead (--adapt). A frame is late if it is
  delayed by more than half an interval. If the engine is whole intervals
  behind, these slots are dropped. Each sink has its own thread and a queue of
  two frames: a slow sink drops frames, which are counted, and never affects
  the other sinks.

failures:
  A sink that fails is closed, or reconnects; the others go on. If no frame
  comes for a quarter of a second, e.g. while another engine takes over, the
  last one is repeated. With --fallback the show goes on when every engine has
  failed: the picture is shown, and the engine is reopened with the same scene
  and controls.

recordings:
  Written to NAME.partial and renamed at the end; this replaces an older file
  of that name. If the process is killed, NAME.partial can be played, MP4 and
  Matroska alike; at most the last half second is missing (x264 at 24 fps). The
  next recording to NAME keeps it as NAME.recovered-1.

signatures and the ledger:
  --sign FOLDER signs recordings after the last frame, with the keys that
  everframe keys create --out FOLDER has made; --sign-key and
  --sign-certificates use your own. An MP4 gets a C2PA manifest: the bundle and
  what it was trained on, what was live, the prompts and the mark. An MKV gets
  NAME.c2pa beside it, HLS gets NAME.segments.jsonl with the hash of every
  segment. Texts are stated as hashes unless --prompts text is given. A
  recording that cannot be signed stays as it is. Signing an MP4 needs as much
  free space again as the file has. EVERFRAME_SIGN_PASSWORD has the password of
  an encrypted key.
  --ledger FILE notes the show in a file of yours: when it began and ended, the
  bundle, prompts, sinks without keys, and the mark. everframe ledger FILE
  --payload HEX finds the show of a mark. docs/provenance.md has the details.

access:
  Only this machine can open the page, unless HOST is 0.0.0.0 or an address of
  your network. Then anyone with the printed token can watch and control the
  show. A stream key is never shown or logged, but other users of this machine
  can see it in the list of processes: --to env:NAME takes the sink from a
  variable.

exit status:
  0  the show ended: --seconds, Ctrl-C, SIGTERM, a closed terminal, or the
     reader of "-" has left; every file is closed
  1  no sink is left, or none has received a frame
  2  an error in the arguments, the bundle, the engine, a key, or a sink that
     cannot be opened: one line explains it, and no files are left behind
  3  everything is recorded, but a recording could not be signed, or the
     ledger not be written: one line says which
  130  a second Ctrl-C: stopped at once, recordings stay .partial
"""
