"""Label configs that show several photos a task: two images, a list on one image, a repeater."""

from __future__ import annotations

from typing import Any

_TAGS = """<KeyPointLabels name="click{0}" toName="image{0}" smart="true" smartOnly="true">
    <Label value="Face"/><Label value="Hair"/></KeyPointLabels>
  <BrushLabels name="mask{0}" toName="image{0}" smart="false">
    <Label value="Face"/><Label value="Hair"/></BrushLabels>"""
CONFIGS = {
    "two images": f"""<View><Image name="image_0" value="$front"/>{_TAGS.format("_0")}
      <Image name="image_1" value="$back"/>{_TAGS.format("_1")}</View>""",
    "valueList": f'<View><Image name="image" valueList="$photos"/>{_TAGS.format("")}</View>',
    "repeater": f"""<View><Repeater on="$photos" indexFlag="{{{{idx}}}}" mode="pagination">
      <Image name="image_{{{{idx}}}}" value="$photos[{{{{idx}}}}].url"/>{_TAGS.format("_{{idx}}")}</Repeater></View>""",
}


def data_of(kind: str, *urls: str) -> dict[str, Any]:
    """The data of a task that shows these photos."""
    if kind == "two images":
        return dict(zip(("front", "back"), urls, strict=True))
    return {"photos": [{"url": url} for url in urls] if kind == "repeater" else list(urls)}


def on_photo(kind: str, place: int, control: str) -> dict[str, Any]:
    """What a region of a control says of the photo that it is on, as Label Studio 1.23.2 sends and saves it."""
    if kind == "valueList":
        return {"from_name": control, "to_name": "image", "item_index": place}
    return {"from_name": f"{control}_{place}", "to_name": f"image_{place}"}
