"""Small pictures of every kind a user may bring: sizes, modes, orientations, file formats."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ORIENTATION_TAG = 0x0112


def scene(width: int, height: int, seed: int) -> Image.Image:
    """Smooth gradients, hard edges and a little noise: all that a resampler can get wrong."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / max(width - 1, 1)
    green = 255 * y / max(height - 1, 1)
    blue = 127 + 127 * np.sin((x + 2 * y) / 5)
    pixels = np.stack([red, green, blue], axis=-1) + rng.normal(0, 6, (height, width, 3))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle([width // 5, height // 5, width // 2, height // 2], fill=(250, 20, 30))
    draw.ellipse([width // 2, height // 3, width - 2, height - 2], fill=(10, 220, 60))
    draw.line([0, height - 1, width - 1, 0], fill=(0, 0, 0), width=1)
    return image


def write_all(folder: Path) -> list[str]:
    """Writes every picture and returns the file names."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[str] = []

    def save(name: str, image: Image.Image, **options) -> None:
        image.save(folder / name, **options)
        written.append(name)

    save("square-40.png", scene(40, 40, 1))
    save("pixel.png", Image.new("RGB", (1, 1), (200, 100, 50)))
    save("tiny-7x5.png", scene(7, 5, 2))
    save("wide-150x50.png", scene(150, 50, 3))
    save("tall-30x110.png", scene(30, 110, 4))
    save("sliver-3x120.png", scene(3, 120, 5))
    save("large-320x231.jpg", scene(320, 231, 6), quality=85, subsampling="4:2:0")
    save("progressive-97x61.jpg", scene(97, 61, 7), quality=90, subsampling="4:4:4", progressive=True)
    save("gray-60x44.png", scene(60, 44, 8).convert("L"))
    save("gray-60x44.jpg", scene(60, 44, 8).convert("L"), quality=90)
    save("bilevel-50x33.png", scene(50, 33, 9).convert("1"))
    save("palette-48x48.png", scene(48, 48, 10).quantize(16))
    _save_transparent(save)
    save("cmyk-56x40.jpg", scene(56, 40, 13).convert("CMYK"), quality=92)
    save("animated-32x24.gif", scene(32, 24, 14).quantize(16), save_all=True, append_images=[scene(32, 24, 15).quantize(16)])
    save("photo-64x48.webp", scene(64, 48, 16), quality=80)
    _write_rgb16(folder / "rgb16-40x30.png", 40, 30)
    written.append("rgb16-40x30.png")
    # Without a golden: the reference saturates 16-bit grey at 255 (PIL) or leaves it unscaled (torchvision).
    gray16 = np.linspace(0, 65535, 44 * 30).reshape(30, 44).astype(np.uint16)
    Image.fromarray(gray16).save(folder / "gray16-44x30.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        save(f"exif{orientation}-36x24.jpg", scene(36, 24, 17), quality=92, subsampling="4:4:4", exif=exif)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    save("exif6-36x24.png", scene(36, 24, 17), exif=exif)
    for frame in range(4):
        picture = scene(64, 48, 20)
        ImageDraw.Draw(picture).rectangle([4 + 14 * frame, 8, 16 + 14 * frame, 20], fill=(255, 255, 255))
        save(f"clip-frame{frame}.png", picture)
    return written


def _write_rgb16(path: Path, width: int, height: int) -> None:
    """A PNG of 16 bits per channel, which PIL reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 1500 + 7, y * 2000 + 130, (x + y) * 900 + 250], axis=-1) % 65536
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _save_transparent(save) -> None:
    """Alpha as a channel, alpha beside grey, and a transparent palette entry."""
    rgba = scene(52, 38, 11).convert("RGBA")
    alpha = np.tile(np.linspace(0, 255, 52).astype(np.uint8), (38, 1))
    rgba.putalpha(Image.fromarray(alpha))
    save("rgba-52x38.png", rgba)
    save("graya-52x38.png", rgba.convert("LA"))
    save("palette-transparent-48x36.png", scene(48, 36, 12).quantize(8), transparency=3)
