"""Videos whose frames show their number as black and white stripes, lowest bit on the left."""

import av
import numpy as np

BITS = 8


def write_video(path, frames, codec="mpeg4", size=(48, 64), rate=25):
    """Write a video of so many frames; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 12
        for number in range(frames):
            bits = (number >> np.arange(BITS)) & 1
            row = np.repeat(255 * bits, size[1] // BITS)
            image = np.broadcast_to(row[None, :, None], (*size, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def numbers(frames):
    """Read the numbers of frames ``(frame, height, width, 3)``, of any size."""
    columns = ((np.arange(BITS) + 0.5) * frames.shape[2] / BITS).astype(int)
    bits = frames[:, frames.shape[1] // 2, columns].mean(axis=-1) > 127
    return (bits << np.arange(BITS)).sum(axis=1).tolist()
