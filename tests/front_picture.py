"""Put crops of results/images/crops side by side, every pixel as 2 x 2: the README's first picture.

    python tests/front_picture.py results/images/compare.png
"""
import sys
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

CROPS = Path(__file__).resolve().parent.parent/"results/images/crops"
METHODS = {"bicubic": "bicubic", "srresnet": "SRResNet", "srgan": "SRGAN", "esrgan": "ESRGAN", "HR": "original"}
ROWS = ["oakland-zoo-otters-apart", "roman-colosseum-apart"]
SIDE, GAP, HEAD = 256, 8, 30


def main(target: str):
    step = SIDE + GAP
    sheet = Image.new("RGB", (len(METHODS)*step - GAP, HEAD + len(ROWS)*step - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 20)
    for x, (name, title) in enumerate(METHODS.items()):
        draw.text((x*step + SIDE//2, HEAD//2 - 1), title, fill="black", font=font, anchor="mm")
        for y, row in enumerate(ROWS):
            crop = Image.open(CROPS/f"{row}-{name}.png").convert("RGB").resize((SIDE, SIDE), Image.NEAREST)
            sheet.paste(crop, (x*step, HEAD + y*step))
    sheet.save(target, optimize=True)


if __name__ == "__main__": main(*sys.argv[1:])
