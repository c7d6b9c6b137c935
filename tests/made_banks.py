"""Made-up banks beside the similarity of a run, as the stage `evaluate` writes them."""

import numpy as np
import pandas as pd

from xpool.postprocessing.banks import Banks


def write_banks(folder, n_text, n_video, captions, seed=0):
    """Write a bank with two captions a video."""
    rng = np.random.default_rng(seed)
    n_bank_video = captions // 2
    owner = [f"training{i // 2}" for i in range(captions)]
    banks = Banks(
        text_video=rng.random((captions, n_video), np.float32),
        video_text=rng.random((n_text, n_bank_video), np.float32),
        video_video=rng.random((n_bank_video, n_video), np.float32),
        text_text=rng.random((captions, n_text), np.float32),
        texts=pd.DataFrame({"caption_id": [f"b{i}" for i in range(captions)], "video_id": owner}),
        videos=pd.DataFrame({"video_id": list(dict.fromkeys(owner))}),
    )
    banks.write(folder)
    return banks
