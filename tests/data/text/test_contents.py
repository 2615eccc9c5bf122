"""Images and videos in messages, in the forms in which people write them."""

import pytest
from PIL import Image

from data.text.contents import joined, sources, text_of, with_sources
from data.text.messages import checked
from data.text.records import has_turn_tokens, parse_record

IMAGE = {"type": "image", "image": "a.png"}
TEXT = {"type": "text", "text": "What?"}


@pytest.mark.parametrize(
    "part",
    [
        IMAGE,
        {"type": "image", "path": "a.png"},
        {"type": "image", "url": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "image_url", "image_url": {"url": "a.png", "detail": "auto"}},
        {"type": "image_url", "image_url": "a.png"},
        {"type": "input_image", "image_url": "a.png", "detail": "auto"},
    ],
)
def test_forms_of_an_image(part):
    assert joined([part, TEXT], "user") == [IMAGE, TEXT]


def test_forms_of_data_and_of_videos():
    data = "data:image/png;base64,QQ=="
    inside = {"type": "base64", "media_type": "image/png", "data": "QQ=="}
    assert joined([{"type": "image", "source": inside}], "user") == [IMAGE | {"image": data}]
    assert joined([{"type": "image", "base64": "QQ=="}], "user")[0]["image"] == "data:;base64,QQ=="
    video = {"type": "video", "video": "a.mp4"}
    for part in (video, {"type": "video_url", "video_url": {"url": "a.mp4"}}):
        assert joined([part, "Why?"], "user") == [video, {"type": "text", "text": "Why?"}]


@pytest.mark.parametrize(
    ("part", "role", "error"),
    [
        (IMAGE, "assistant", "only messages of the user have images and videos"),
        ({"type": "image"}, "user", 'expected its path or data URL, as in "image": "FILE"'),
        ({"type": "image", "image": " "}, "user", "expected its path"),
        ({"type": "image", "image": 5}, "user", "expected its path"),
        ({"type": "image_url", "image_url": {}}, "user", "type image_url: expected its path"),
        (IMAGE | {"url": "b.png"}, "user", "both image and url: keep one"),
        (IMAGE | {"detail": "high"}, "user", "detail is not taken"),
        (
            {"type": "image_url", "image_url": {"url": "a", "detail": "low"}},
            "user",
            "detail is not taken",
        ),
        ({"type": "input_audio", "input_audio": {}}, "user", "this model does not hear"),
    ],
)
def test_what_is_refused(part, role, error):
    with pytest.raises(ValueError, match=error):
        joined([TEXT, part], role)


def test_messages_keep_their_images():
    given = [
        {"role": "human", "content": [IMAGE, "What?", IMAGE | {"image": "b.png"}]},
        {"role": "assistant", "content": "A <|turn>."},
        {"role": "user", "content": [{"type": "text", "text": "And?"}]},
    ]
    found = checked(given)
    assert found[0]["content"] == [IMAGE, TEXT, IMAGE | {"image": "b.png"}]
    assert found[2]["content"] == "And?" and checked(found) == found
    assert sources(found) == [("image", "a.png"), ("image", "b.png")]
    assert [text_of(message) for message in found] == ["What?", "A <|turn>.", "And?"]
    bare = with_sources(found, None)
    assert bare[0]["content"] == [{"type": "image"}, TEXT, {"type": "image"}]
    assert sources(with_sources(found, ["c", "d"])) == [("image", "c"), ("image", "d")]
    assert checked([{"role": "user", "content": [IMAGE]}])[0]["content"] == [IMAGE]
    assert (
        not has_turn_tokens(found) and has_turn_tokens([*given[1:], *checked(given[:1])]) is False
    )


def test_an_image_in_memory_stays_as_it_is():
    picture = Image.new("RGB", (2, 2))
    part = {"type": "image", "image": picture}
    (message,) = checked([{"role": "user", "content": ["What?", part]}])
    ((kind, source),) = sources([message])
    assert kind == "image" and source is picture
    with pytest.raises(ValueError, match="expected its path"):
        joined([{"type": "video", "video": picture}], "user")


ASKED = [IMAGE, {"type": "text", "text": "What?"}]


@pytest.mark.parametrize(
    ("record", "contents"),
    [
        ({"prompt": "What?", "image": "a.png"}, [ASKED]),
        ({"prompt": "What?", "images": ["a.png"]}, [ASKED]),
        ({"prompt": "What?", "images": [{"bytes": None, "path": "a.png"}]}, [ASKED]),
        ({"prompt": "<image>\nWhat?", "images": ["a.png"]}, [[IMAGE, TEXT | {"text": "\nWhat?"}]]),
        (
            {
                "messages": [{"role": "user", "content": [TEXT, {"type": "image"}]}],
                "images": ["a.png"],
            },
            [[TEXT, IMAGE]],
        ),
        (
            {
                "image": "a.png",
                "conversations": [
                    {"from": "human", "value": "<image>\nWhat?"},
                    {"from": "gpt", "value": "A cat."},
                ],
            },
            [[IMAGE, TEXT | {"text": "\nWhat?"}], "A cat."],
        ),
        ({"prompt": "What?", "videos": ["a.mp4"]}, [[{"type": "video", "video": "a.mp4"}, TEXT]]),
        ({"instruction": "What?", "output": "A", "images": []}, ["What?", "A"]),
    ],
)
def test_fields_of_a_record(record, contents):
    found = parse_record(record)
    assert [message["content"] for message in found.messages] == contents
    assert found.unused == ()


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({"prompt": "<image> What?", "images": ["a", "b"]}, "images: there are 2 of them, and 1"),
        ({"prompt": "a", "images": [5]}, "images: expected paths or data URLs"),
        ({"prompt": "a", "images": ["a"], "image": "b"}, "both image and images: keep one"),
        ({"prompt": "a", "audio": "a.wav"}, "audio: this model does not hear"),
        (
            {"messages": [{"role": "user", "content": [TEXT, {"type": "image"}]}]},
            "message 1: a part of type image: expected its path",
        ),
    ],
)
def test_fields_that_are_refused(record, error):
    with pytest.raises(ValueError, match=error):
        parse_record(record)
