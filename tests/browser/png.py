"""Small PNG files: a picture's most frequent colours as its palette, every other colour as the nearest of them."""

from __future__ import annotations

import base64
import struct
import zlib

from tests.browser.webdriver import Browser

COLOURS = 256
PALETTE_OF = """
const done = arguments[arguments.length - 1], most = arguments[1];
(async () => {
  const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], {type: 'image/png'}));
  const {width, height} = picture, canvas = new OffscreenCanvas(width, height), context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer), seen = new Map();
  for (const pixel of pixels) seen.set(pixel, (seen.get(pixel) || 0) + 1);
  const split = (pixel) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
  const palette = [...seen].sort((one, other) => other[1] - one[1]).slice(0, most).map(([pixel]) => split(pixel));
  const nearest = new Map();
  for (const pixel of seen.keys()) {
    const [red, green, blue] = split(pixel);
    let best = 0, least = Infinity;
    palette.forEach(([r, g, b], index) => {
      const far = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
      if (far < least) { least = far; best = index; }
    });
    nearest.set(pixel, best);
  }
  let text = '';
  for (const pixel of pixels) text += String.fromCharCode(nearest.get(pixel));
  done({width, height, palette: palette.flat(), pixels: btoa(text)});
})();
"""


async def small(browser: Browser, picture: bytes) -> bytes:
    """The picture again, in few bytes. The browser, which knows how, reads it; its page is left."""
    await browser.open("about:blank")
    found = await browser.run_async(PALETTE_OF, base64.b64encode(picture).decode(), COLOURS)
    width, height = found["width"], found["height"]
    pixels = base64.b64decode(found["pixels"])
    lines = b"".join(b"\0" + pixels[start : start + width] for start in range(0, width * height, width))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(found["palette"])),
            _chunk(b"IDAT", zlib.compress(lines, 9)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
