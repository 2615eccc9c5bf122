"""Reading prompts and finished canvases into a KV cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from diffusiongemma import Images
from diffusiongemma.attention import KVCache
from diffusiongemma.vision.images import SoftTokens, check_images
from sample.batch import bucket
from sample.images import Pictures, see
from sample.split_model import SplitModel

# Columns of a prompt that are read at a time. So many keep a GPU computing for longer than reading
# the weights of the 26B takes (15 ms). More would only cost memory, as activations grow with them.
CHUNK = 2048


def prefill(
    model: SplitModel,
    tokens: np.ndarray,
    mask: np.ndarray,
    cache_length: int,
    chunk: int | None = CHUNK,
    images: Images | None = None,
) -> KVCache:
    """Reads prompts into a new cache. One program is compiled for each shape.

    In chunks, the activations take the memory of one chunk however long the prompt is. The cache is
    the same up to rounding. An image is never cut in two: a chunk that would end in one ends before
    it, and a chunk of an image that is longer than `chunk` is as long as the image. Each image goes
    through the tower once.

    Args:
      model: the model, split.
      tokens: [B, P] int32, prompts.
      mask: [B, P] bool, True at real tokens.
      cache_length: tokens of each row that the cache has room for.
      chunk: columns of tokens that are read at a time, at most; None reads all at once.
      images: the images of the prompts' image tokens; None if there are none.

    Returns:
      a cache that holds the real tokens of each row.

    Raises:
      ValueError: the images do not fit the model and the tokens (vision/images.py).
    """
    if images is not None:
        check_images(model.config.vision, images, tokens, mask)
    cache = _empty_cache(model, tokens.shape[0], cache_length)
    return _read_chunks(model, tokens, mask, cache, chunk, images)


def _read_chunks(
    model: SplitModel,
    tokens: np.ndarray,
    mask: np.ndarray,
    cache: KVCache,
    chunk: int | None,
    images: Images | None = None,
) -> KVCache:
    """Reads tokens [B, P] behind a cache, which is donated; see prefill."""
    length = tokens.shape[1]
    num_chunks = -(-length // (chunk or length))
    chunk = -(-length // num_chunks)  # equal sizes, so that the last chunk is not mostly padding
    if images is not None:
        return _read_with_images(model, tokens, mask, cache, chunk, images)
    for start in range(0, length, chunk):
        missing = max(start + chunk - length, 0)  # the last chunk is filled up with padding
        piece, real = (
            np.pad(x[:, start : start + chunk], ((0, 0), (0, missing))) for x in (tokens, mask)
        )
        cache = _read(model, piece, real, cache)
    return cache


def _read_with_images(
    model: SplitModel,
    tokens: np.ndarray,
    mask: np.ndarray,
    cache: KVCache,
    chunk: int,
    images: Images,
) -> KVCache:
    """The same for tokens with images. All chunks have the width of the widest."""
    values, index = see(model, images, tokens, mask)
    ends = chunk_ends(index >= 0, mask, chunk)
    width = int(np.diff([0, *ends]).max())
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        missing = (0, 0), (0, width - (end - start))
        piece, real = (np.pad(x[:, start:end], missing) for x in (tokens, mask))
        places = np.pad(index[:, start:end], missing, constant_values=-1)
        cache = _read_seen(model, piece, real, cache, SoftTokens(values, places))
    return cache


def chunk_ends(is_image: np.ndarray, mask: np.ndarray, chunk: int) -> list[int]:
    """The columns at which chunks end, so that no row's image is cut in two.

    Args:
      is_image: [B, P] bool, the tokens of images.
      mask: [B, P] bool, True at real tokens.
      chunk: columns of a chunk, at most; a chunk is longer if an image in it is.

    Returns:
      the ends, of which the last is P.
    """
    length = mask.shape[1]
    # A cut before column c parts an image if the last real token before c and the first one from c
    # on both belong to images. There is text between two images, so it is one image.
    column = np.arange(length)
    last = np.maximum.accumulate(np.where(mask, column, -1), axis=1)[:, :-1]
    first = np.minimum.accumulate(np.where(mask, column, length)[:, ::-1], axis=1)[:, ::-1][:, 1:]
    padded = np.pad(is_image, ((0, 0), (0, 1)))  # also at -1, which is the new column
    before, after = (np.take_along_axis(padded, at, axis=1) for at in (last, first))
    whole = np.append(~(before & after).any(axis=0), True)  # for cuts before 1, 2, .. P
    cuts, ends = np.flatnonzero(whole) + 1, [0]
    while ends[-1] < length:
        later = cuts[cuts > ends[-1]]
        near = later[later <= ends[-1] + chunk]
        ends.append(int(near[-1] if near.size else later[0]))
    return ends[1:]


class KeptPrompt:
    """What a conversation left in the KV cache, so that its next turn reads only what is new.

    The prompt is kept up to the last token that begins a turn: what follows opens the model's turn,
    and a template may write that part in another way once the turn is done. A prompt that does not
    begin with what is kept is read from its start.

    Args:
      turn_start_id: the token that begins a turn.

    Attributes:
      num_read: the number of tokens that the last call read.
    """

    def __init__(self, turn_start_id: int):
        self._turn_start_id = turn_start_id
        self._tokens, self._cache = np.zeros(0, np.int32), None
        self._images: list[bytes] = []  # those of the kept tokens
        self.num_read = 0

    def prefill(
        self,
        model: SplitModel,
        tokens: np.ndarray,
        mask: np.ndarray,
        cache_length: int,
        chunk: int | None = CHUNK,
        images: Images | None = None,
    ) -> KVCache:
        """Reads a prompt of one row as `prefill` does, and keeps what the next turn begins with.

        Args:
          model: the same model in every call.
          tokens, mask, cache_length, chunk, images: as for `prefill`.

        Returns:
          a cache that holds the whole prompt. It may be donated.

        Raises:
          ValueError: there are several rows, or the images do not fit.
        """
        if len(tokens) != 1:
            raise ValueError(f"a conversation is kept for one row, not for {len(tokens)}")
        if images is not None:
            check_images(model.config.vision, images, tokens, mask)
        prompt, known = tokens[mask], len(self._tokens)
        kept, self._cache = self._cache, None  # reading donates it, and may be interrupted
        pictures = Pictures(model, prompt, images)
        same = np.array_equal(prompt[:known], self._tokens)
        if kept is None or not same or pictures.contents(known) != self._images:
            known, cache = 0, _empty_cache(model, 1, cache_length)
        else:
            cache = _resized(kept, _cache_shapes(model, cache_length))
        turns = np.flatnonzero(prompt == self._turn_start_id)
        end = max(known, turns[-1] if turns.size else 0)
        cache = self._read(model, prompt[known:end], cache, chunk, pictures.between(known, end))
        self._tokens, self._cache, self._images = prompt[:end], cache, pictures.contents(end)
        self.num_read = len(prompt) - known
        copied, rest = jax.tree.map(jnp.copy, cache), pictures.between(end, len(prompt))
        return self._read(model, prompt[end:], copied, chunk, rest)

    @staticmethod
    def _read(
        model: SplitModel,
        prompt: np.ndarray,
        cache: KVCache,
        chunk: int | None,
        images: Images | None,
    ) -> KVCache:
        if not prompt.size:
            return cache
        width = bucket(prompt.size, model.config.max_length)
        tokens, mask = np.zeros((1, width), np.int32), np.zeros((1, width), bool)
        tokens[0, : prompt.size], mask[0, : prompt.size] = prompt, True
        return _read_chunks(model, tokens, mask, cache, chunk, images)


def _cache_shapes(model: SplitModel, cache_length: int) -> KVCache:
    return jax.eval_shape(lambda model: model.merge().init_cache(1, cache_length), model)


def _resized(cache: KVCache, like: KVCache) -> KVCache:
    """A cache of one row with room for as many tokens as another one, which has room for its own.

    A ring that is not yet full has position p in slot p, so slots can be added at its end.
    """

    def resized(old: jax.Array, new: jax.ShapeDtypeStruct) -> jax.Array:
        more = new.shape[2] - old.shape[2]
        old = old[:, :, : new.shape[2]]  # slots that no token of the prompt is in
        return jnp.pad(old, ((0, 0), (0, 0), (0, max(more, 0)), (0, 0)))

    layers = jax.tree.map(resized, cache.layers, like.layers)
    return KVCache(layers, jnp.copy(cache.length))


def commit(model: SplitModel, cache: KVCache, tokens: jax.Array, done: np.ndarray) -> KVCache:
    """Appends finished canvases to the cache.

    A row that goes on has no stop token in its canvas, so all tokens of its canvas are real.

    Args:
      model: the model, split.
      cache: the context so far; it is donated.
      tokens: [B, C] int32, the canvases.
      done: [B] bool, rows that have ended; their part of the cache stays as it is.
    """
    mask = np.broadcast_to(~done[:, None], tokens.shape)
    return _read(model, tokens, mask, cache)


@functools.partial(jax.jit, static_argnames=("batch_size", "cache_length"))
def _empty_cache(model: SplitModel, batch_size: int, cache_length: int) -> KVCache:
    return model.merge().init_cache(batch_size, cache_length)


@functools.partial(jax.jit, donate_argnames=("cache",))
def _read_seen(
    model: SplitModel, tokens: jax.Array, mask: jax.Array, cache: KVCache, images: SoftTokens
) -> KVCache:
    return model.merge().encode(tokens, cache, mask, logits="none", images=images)[1]


@functools.partial(jax.jit, donate_argnames=("cache",))
def _read(model: SplitModel, tokens: jax.Array, mask: jax.Array, cache: KVCache) -> KVCache:
    return model.merge().encode(tokens, cache, mask, logits="none")[1]
