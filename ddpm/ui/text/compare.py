"""Tab "Compare"."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "compare.question": ("Which steps can be skipped?", "哪些步骤可以省略？"),
    "compare.body": (
        "Every row starts from the same [noise](xt) $x_T$ and uses the same network; only the sampler, its share "
        "$\\eta$ of fresh noise and the number of steps differ. Ancestral sampling (DDPM) adds fresh noise at each "
        "step; DDIM and DPM-Solver++ with $\\eta=0$ add none.",
        "每一行都从同一份[噪声](xt) $x_T$ 出发，使用同一个网络，只有采样器、新噪声的比例 $\\eta$ 和步数不同。"
        "祖先采样（DDPM）每步都加入新噪声；$\\eta=0$ 时，DDIM 和 DPM-Solver++ 都不加。",
    ),
    "compare.try": (
        "Give all rows the same sampler, with 100, 20, 5 and 2 steps. Which sampler still draws the same pictures, "
        "and which draws others?",
        "让各行使用同一个采样器，步数取 100、20、5、2。哪个采样器仍画出同样的图像，哪个画出别的图像？",
    ),
    "compare.why": (
        "Why does DDIM keep the picture? Without fresh noise, $x_T$ determines the whole path (it solves an ordinary "
        "differential equation), and fewer steps only follow the path more coarsely. With fresh noise, $x_T$ decides "
        "little, and the noise drawn on the way decides the rest.||Why is DPM-Solver++ good with 10 steps? It is a "
        "method of second order: it also uses the guess of the previous step, and so follows the curve of the path, "
        "while each DDIM step is straight.||What is fresh noise good for? With $\\eta=1$, DPM-Solver++ adds it too, "
        "and solves a stochastic differential equation instead of the ordinary one. The noise of a step covers a part "
        "of the errors that the steps before it have made, and the network then removes both. From about 20 steps on, "
        "this can bring the samples closer to the data; with 5 steps, the last ones cannot remove so much noise, and "
        "the pictures get worse.||What is counted? A network call is one evaluation for all pictures of a row; the "
        "calls take nearly all of the time. The seconds count the row’s own steps on the server, without the wait for "
        "other visitors and without the transfer of the frames. The RMS difference compares finished pictures, with "
        "pixels from −1 to 1.",
        "为什么 DDIM 能保持图像？不加新噪声时，$x_T$ 决定整条路径（它是常微分方程的解），步数少只是走得更粗略。"
        "加入新噪声时，$x_T$ 决定的很少，其余由途中抽取的噪声决定。||为什么 DPM-Solver++ 用 10 步就很好？"
        "它是二阶方法：还利用上一步的猜测，因此能贴合路径的弯曲，而 DDIM 的每一步都是直线。||新噪声有什么用？"
        "$\\eta=1$ 时 DPM-Solver++ 也加入新噪声，解的是随机微分方程而不是常微分方程。"
        "每一步的噪声盖住前面各步留下的一部分误差，网络再把两者一起去掉。大约从 20 步起，样本可能因此更接近数据；"
        "只用 5 步时，最后几步去不掉这么多噪声，图像反而更差。"
        "||统计的是什么？"
        "一次网络调用是对一行全部图像的一次计算，这些调用几乎占去所有时间。"
        "秒数只计这一行自己的步骤在服务器上所用的时间，不含等待其他访客，也不含传输。差异是两行最终图像之差的均方根，"
        "像素取值从 −1 到 1。",
    ),
    "compare.link": (
        "{name} = {value}: {low} to {high} rows are needed, each one of {choices}",
        "{name} = {value}：需要 {low} 到 {high} 行，每行为 {choices} 之一",
    ),
    "compare.link.labelled": ("{choices}; with a label such as {example}", "{choices}；带标签时例如 {example}"),
    "compare.link.models": (
        "{choices}; with another model, :model=NAME at the end, where NAME is one of {models}",
        "{choices}；用另一个模型时在末尾加 :model=名称，名称为 {models} 之一",
    ),
    "compare.models": (
        "A row can also be of another model. Then the noise is the same, and the network differs, too.",
        "某一行也可以换用另一个模型：噪声相同，但网络也不同。",
    ),
    "compare.model": ("Model of this row", "这一行的模型"),
    "compare.steps": ("{n?step:steps}", "步"),
    "compare.add": ("Add a row", "添加一行"),
    "compare.remove": ("Remove this row", "删除这一行"),
    "compare.done": (
        "{n} rows start from the same noise, seed {seed}. Move t to scrub through all of them.",
        "{n} 行，噪声相同，种子 {seed}。拖动 t 可同时回看各行。",
    ),
    "compare.example": (
        "Stored example of {n} rows. Move t to scrub through all of them.",
        "预先算好的示例，共 {n} 行。拖动 t 可同时回看各行。",
    ),
    "compare.changed": ("Rows to draw: {n} (new or changed). Press Sample.", "有 {n} 行是新的或已改动，请点击“采样”。"),
    "compare.quiz": (
        "All rows begin with the same noise. Which row ends closest to the first one?",
        "所有行都从同一份噪声开始。哪一行的结果最接近第一行？",
    ),
    "compare.quiz.guess": ("My guess: row", "我猜：第几行"),
    "compare.quiz.answer": (
        "Row {best}, {name}: its pictures are {away} away from those of row 1 (root mean square, in pixels from −1 to "
        "1). Your row {guess} is {here} away.",
        "第 {best} 行，{name}：与第 1 行的图像相差 {away}（均方根，像素取值 −1 到 1）。"
        "你猜的第 {guess} 行相差 {here}。",
    ),
    "compare.quiz.none": (
        "There is no row {guess}, or its pictures are not complete.",
        "没有第 {guess} 行，或者它的图像还不完整。",
    ),
}
