"""Why an input is rejected: what was given, and what is accepted. Also messages of the public endpoints, in English."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "refused.whole": (
        "{name} = {value}: a whole number from {low} to {high} is needed",
        "{name} = {value}：需要 {low} 到 {high} 的整数",
    ),
    "refused.real": (
        "{name} = {value}: a number from {low} to {high} is needed",
        "{name} = {value}：需要 {low} 到 {high} 的数",
    ),
    "refused.nothing": ("nothing", "空"),
    "refused.choice": ("{name} = {value}: one of {choices} is needed", "{name} = {value}：只能是 {choices}"),
    "refused.model": (
        "model = {model}: this model cannot be used: {reason}",
        "model = {model}：无法使用这个模型：{reason}",
    ),
    "refused.label": (
        "{name} = {value}: the model knows {choices}; leave it empty for no label",
        "{name} = {value}：模型只有这些标签：{choices}；留空表示无标签",
    ),
    "refused.no_labels": (
        "{name} = {value}: the model was trained without labels, so it has none to ask for",
        "{name} = {value}：模型训练时没有使用标签，因此不能指定标签",
    ),
    "refused.no_classes": (
        "The model was trained without labels, so it cannot tell which label a picture has.",
        "模型训练时没有使用标签，因此无法判断图像属于哪个标签。",
    ),
    "refused.pixels": (
        "{name}: a picture of {needed} bytes in base64 is needed",
        "{name}：需要 {needed} 字节的图像（base64）",
    ),
    "refused.mask": (
        "{name}: 1 where the picture is to be filled in, at one pixel at least, and 0 elsewhere, is needed",
        "{name}：需要修补的像素为 1（至少一个），其余为 0",
    ),
    "refused.erased": (
        "{name} = {value}: this is no erased part of a picture of this size",
        "{name} = {value}：不是这种尺寸的图像的擦除部分",
    ),
    "refused.shape": (
        "{name}: nested lists of {shape} numbers from {low} to {high} are needed",
        "{name}：需要 {shape} 的嵌套列表，数值从 {low} 到 {high}",
    ),
    "refused.no_example": (
        "{name}: the model is still drawing its first picture; send a picture, or try again soon",
        "{name}：模型还在生成第一张图像；请给出图像，或稍后重试",
    ),
    "refused.slow": (
        "The model is too slow: the server stopped it after {limit} s.",
        "模型太慢：服务器已在 {limit} 秒后终止。",
    ),
    "refused.deadline": (
        "The server stopped after {limit} s of computing. Choose fewer steps or pictures.",
        "服务器在计算 {limit} 秒后终止了采样。请减少步数或张数。",
    ),
    "refused.crowded": (
        "Too many visitors share the model: the server stopped after {limit} s. Please try again later.",
        "同时使用模型的访客太多，服务器已在 {limit} 秒后终止。请稍后重试。",
    ),
    "refused.unheard": (
        "Nobody has listened for the answer, so the server stopped. Fetch it within {limit} s of asking.",
        "无人接收结果，服务器已停止计算。请在提交后 {limit} 秒内获取结果。",
    ),
    "refused.not_finite": (
        "The network’s answer is not finite (NaN or infinity), so nothing follows from it. The model may be damaged.",
        "网络的输出不是有限值（NaN 或无穷大），无法继续计算。模型可能已损坏。",
    ),
    "refused.calls": (
        "The rows together need {value} network calls; at most {high} are allowed. Choose fewer steps.",
        "所有行共需 {value} 次网络调用，最多允许 {high} 次。请减少步数。",
    ),
    "field.model": ("Model", "模型"),
    "field.num_inference_steps": ("Steps", "步数"),
    "field.num_images": ("Pictures", "张数"),
    "field.seed": ("Seed", "随机种子"),
    "field.eta": ("η", "η"),
    "field.label": ("Label", "标签"),
    "field.guidance_scale": ("Guidance scale s", "引导强度 s"),
    "field.x0": ("x_0", "x_0"),
    "field.noise_seed": ("Noise", "噪声"),
    "field.sampler": ("Sampler", "采样器"),
    "field.second": ("x_0′", "x_0′"),
    "field.t0": ("t₀", "t₀"),
    "field.mask": ("Erased part", "擦除部分"),
    "field.jumps": ("Jumps", "回跳次数"),
    "field.rows": ("Rows", "行数"),
    "field.start_t": ("Start at t", "起始 t"),
    "field.clip": ("Clipping", "截断"),
    "field.fresh_noise": ("Fresh noise", "新噪声"),
}
