"""Header, notices, links, and the parts that all tabs share."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    # header
    "page.title": ("DDPM: from the bound to the noise", "DDPM：从变分下界到噪声预测"),
    "page.language": ("Language", "语言"),
    "page.theme": ("Light or dark theme", "浅色或深色主题"),
    "page.model": ("Model on this page", "本页使用的模型"),
    "page.models": ("All models of this server", "本服务器的所有模型"),
    "models.size": ("{width} × {height}, {colours}", "{width} × {height}，{colours}"),
    "models.gray": ("gray", "灰度"),
    "models.colour": ("colour", "彩色"),
    "models.unusable": ("unavailable", "无法使用"),
    "page.embedded": ("embedded", "内置"),
    "page.local": ("local directory", "本地目录"),
    "page.parameters": ("{count} {count?parameter:parameters}", "{count} 个参数"),
    "page.labels": ("{count} {count?label:labels}", "{count} 个标签"),
    "notice.embedded": (
        "{name} is currently unavailable ({reason}); this page shows the embedded model {shown} instead.",
        "目前无法获取 {name}（{reason}）；本页改用内置模型 {shown}。",
    ),
    "notice.other": (
        "{name} is currently unavailable ({reason}); this page shows {shown} instead.",
        "目前无法使用 {name}（{reason}）；本页改为显示 {shown}。",
    ),
    "notice.cached": (
        "The Hub is currently unreachable; this page shows the copy of {name} that was downloaded earlier.",
        "目前无法连接 Hub；本页使用此前下载的 {name} 副本。",
    ),
    "tab.forward": ("Forward", "前向加噪"),
    "tab.noise": ("Predict the noise", "预测噪声"),
    "tab.bound": ("The bound", "变分上界"),
    "tab.reverse": ("Reverse", "反向去噪"),
    "tab.compare": ("Compare", "对比"),
    "tab.mine": ("From my picture", "我的图像"),
    "tab.wrong": ("What goes wrong", "哪里会出错"),
    "tab.training": ("Training", "训练"),
    # every tab
    "part.try": ("Try", "试一试"),
    "part.code": ("In our code", "对应代码"),
    "part.why": ("Why?", "为什么？"),
    "part.legend": (
        "Colours of the noise: blue is −3, neutral is 0, orange is 3",
        "噪声的颜色：蓝色为 −3，中性色为 0，橙色为 3",
    ),
    "part.colour_noise": (
        "In colour, $\\epsilon$ has three numbers for each pixel. Its picture shows their mean, scaled to variance 1.",
        "彩色图像中，$\\epsilon$ 的每个像素有三个数；噪声图显示它们的均值，并缩放到方差 1。",
    ),
    "part.along": (
        "At the same $t$, the forward process has put as much noise on your picture as the samples still hold.",
        "在同一个 $t$，前向加噪给你的图像加上的噪声，与样本中尚存的一样多。",
    ),
    "part.along.x0": ("your picture", "你的图像"),
    "part.along.x0.label": ("The picture that you have drawn or chosen", "你画的或选的图像"),
    "part.along.xt": ("noised to $t={t}$", "加噪到 $t={t}$"),
    "part.along.xt.label": ("The same picture, noised", "加噪后的同一张图像"),
    "t.slider": (
        "timestep t, from the clean picture (left) to pure noise (right)",
        "时间步 t，从干净图像（左）到纯噪声（右）",
    ),
    "t.value": ("t = {t}, alpha-bar {alpha_bar}, SNR {snr} dB", "t = {t}，alpha-bar {alpha_bar}，信噪比 {snr} dB"),
    "t.finished": ("t = 0, the finished picture", "t = 0，最终图像"),
    "t.clean": ("clean", "干净"),
    "t.noise": ("noise", "噪声"),
    "t.snr": ("SNR", "信噪比"),
    "unit.bits": ("bits/dim", "比特/维"),
    "chart.label": ("{name} against t; click to move t", "{name} 随 t 的变化；点击可移动 t"),
    # the server's answers
    "answer.failed": (
        "The server could not answer. Please choose the picture again.",
        "服务器未能回答，请重新选择图像。",
    ),
    "answer.busy": (
        "The model serves one visitor at a time, and many are waiting. Trying again in a moment …",
        "访客较多，模型一次只能服务一位。稍后会自动重试……",
    ),
    "answer.waking": (
        "The server has just started. The network will answer in a few seconds …",
        "服务器刚刚启动，网络几秒后即可回答……",
    ),
    "answer.lost": (
        "The connection to the server is lost. The page will reload by itself once the server is back.",
        "与服务器的连接已断开。服务器恢复后，页面会自动重新加载。",
    ),
    # links
    "link.copy": ("Copy link", "复制链接"),
    "link.field": ("Link to what is on screen", "当前画面的链接"),
    "link.copied": ("The link to this tab and its settings is copied.", "已复制这个标签页及其设置的链接。"),
    "link.copied.drawn": (
        "The link to this tab and its settings is copied; it does not contain your own picture.",
        "已复制这个标签页及其设置的链接；链接不含你自己的图像。",
    ),
    "link.by_hand": (
        "This browser does not let the page copy. The link below is selected; please copy it from there.",
        "浏览器不允许网页复制。下方的链接已选中，请手动复制。",
    ),
    "link.refused": ("The page ignored a part of the link: {list}.", "本页忽略了链接中的部分内容：{list}。"),
    "link.no_tab": (
        "{name} = {value}: this setting belongs to a tab, and the link names no tab of this page",
        "{name} = {value}：这是某个标签页的设置，而链接没有指明本页的标签页",
    ),
    "link.unknown": ("{name}: there is no such setting here", "{name}：这里没有这项设置"),
    # the question at the end of a tab
    "quiz.title": ("Answer first", "先猜再看"),
    "quiz.reveal": ("Show the answer", "看答案"),
    "quiz.wait": (
        "The numbers of this tab are not there yet. Please ask again once they are.",
        "这一页的数值还没有出来，出来之后请再问一次。",
    ),
    # the page in another page
    "embed.copy": ("Copy as a frame for your own page", "复制为可嵌入的框架"),
    "embed.copied": (
        "The HTML of a frame that shows only this picture and its controls is copied.",
        "已复制框架的 HTML，它只显示当前画面和控件。",
    ),
}
