"""How an image looks, for schemathesis, which imports this module by the variable SCHEMATHESIS_HOOKS."""

import base64

import schemathesis
from hypothesis import strategies as st
from PIL import Image

from tests.support import images

NOISE = Image.effect_noise((16, 12), 60).convert("RGB")
# The photo has segments, so that there are masks to fetch.
PHOTO = images.jpeg(images.astronaut().resize((256, 256)))
IMAGES = [PHOTO, *(images.encode(NOISE, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"))]
# Two of three are images, so that most jobs succeed.
FILES = st.one_of(st.just(PHOTO), st.sampled_from(IMAGES), st.binary(max_size=200))
TEXTS = st.one_of(st.sampled_from([base64.b64encode(image).decode() for image in IMAGES]), st.text(min_size=1))

schemathesis.openapi.media_type("image/*", FILES)
schemathesis.openapi.format("binary", FILES)
schemathesis.openapi.format("base64", TEXTS)
