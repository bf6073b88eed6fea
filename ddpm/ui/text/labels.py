"""Tab "Labels"."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "tab.labels": ("Labels", "标签"),
    "labels.question": ("Can I ask for a three?", "能指定画一个 3 吗？"),
    "labels.question.named": ("Can I ask for “{name}”?", "能指定画“{name}”吗？"),
    "labels.body": (
        "This network also knows the names of its pictures. For the same $x_t$ it predicts the noise twice: "
        "[without a label](eps_0), $\\epsilon_0$, and [with it](eps_c), $\\epsilon_c$. Guidance starts at "
        "$\\epsilon_0$ and goes $s$ times the way to $\\epsilon_c$: $s=0$ ignores the label, $s=1$ is the plain "
        "conditional model, and a larger $s$ [exaggerates](eps_s) what the label changes.",
        "这个网络还认识图像的名称。对同一个 $x_t$，它预测两次噪声：[无标签](eps_0)的 $\\epsilon_0$ 和"
        "[有标签](eps_c)的 $\\epsilon_c$。引导从 $\\epsilon_0$ 出发，沿着通向 $\\epsilon_c$ 的方向走 $s$ 倍的路程："
        "$s=0$ 不看标签，$s=1$ 就是普通的条件模型，$s$ 更大则[放大](eps_s)标签带来的变化。",
    ),
    "labels.try": (
        "Choose a label. In which row do all pictures show it for the first time, and where do they begin to look "
        "alike? Then move $t$: how soon does the guess with the label leave the guess without it?",
        "选一个标签。从哪一行开始所有图像都符合标签？从哪一行开始它们变得彼此相似？再拖动 $t$："
        "有标签的猜测多早就与无标签的猜测分开？",
    ),
    "labels.why": (
        "Why go further than $s=1$? $\\epsilon_c-\\epsilon_0$ is proportional to $-\\nabla_{x_t}\\log p(c\\mid x_t)$, "
        "so taking this noise away moves $x_t$ to where a classifier hidden in the network becomes surer of the label. "
        "With $s$, that classifier counts $s$ times: the larger $s$ is, the more the pictures obey the label, and the "
        "less they differ from each other.||Which convention is this? Here "
        "$s=0$ means no label. Ho and Salimans (2022) write $w=s-1$, so that $w=0$ is the plain conditional "
        "model.||How can one network do both? In training, a share of the pictures came without their label "
        "(label_dropout), and a vector of its own stands for “no label”.||What differs between the rows? Only $s$: "
        "all start from the same noise, and DDIM with $\\eta=0$ adds none on the way. One call of the network "
        "computes $\\epsilon_0$ and $\\epsilon_c$ for all rows together. The number beside a row is the root mean "
        "square of the difference between its finished pictures and those of $s=0$, with pixels from −1 to 1.",
        "为什么 $s$ 要超过 1？$\\epsilon_c-\\epsilon_0$ 与 $-\\nabla_{x_t}\\log p(c\\mid x_t)$ 成正比，"
        "去掉这份噪声，$x_t$ 就移向网络中隐含的分类器对该标签更确信的地方。"
        "$s$ 相当于把这个分类器算 $s$ 遍：$s$ 越大，图像越符合标签，彼此的差别也越小。"
        "||这是哪种约定？这里 $s=0$ 表示无标签。"
        "Ho 和 Salimans（2022）写作 $w=s-1$，因此 $w=0$ 是普通的条件模型。||一个网络怎么能两样都会？"
        "训练时有一部分图像不带标签（label_dropout），并用一个单独的向量表示“无标签”。||各行之间有什么不同？"
        "只有 $s$：所有行从同一份噪声出发，$\\eta=0$ 的 DDIM 途中也不加噪声。"
        "一次网络调用就为所有行一起算出 $\\epsilon_0$ 和 $\\epsilon_c$。"
        "每行旁边的数字是它的最终图像与 $s=0$ 那一行之差的均方根，像素取值从 −1 到 1。",
    ),
    # what is asked for
    "labels.names": ("Which label", "哪个标签"),
    "labels.find": ("Search among {n} labels", "在 {n} 个标签中搜索"),
    "labels.rest": (
        "{shown} of {n} {n?label:labels} are shown. Type a part of a name to find others.",
        "显示了 {n} 个标签中的 {shown} 个。输入名称的一部分可查找其他标签。",
    ),
    "labels.found": ("{n} {n?label matches:labels match} “{text}”.", "有 {n} 个标签符合“{text}”。"),
    "labels.done": (
        "“{label}” from the same noise in every row, seed {seed}, {seconds} s. Move t to scrub through all rows.",
        "“{label}”，各行噪声相同，种子 {seed}，{seconds} 秒。拖动 t 可同时回看各行。",
    ),
    "labels.done.none": (
        "Without a label, s changes nothing, so all rows are the same. Seed {seed}, {seconds} s.",
        "无标签时 s 不起作用，因此各行完全相同。种子 {seed}，{seconds} 秒。",
    ),
    "labels.example": (
        "Stored example: “{label}”. Choose another label, or move t to scrub through all rows.",
        "预先算好的示例：“{label}”。可以换一个标签，也可以拖动 t 同时回看各行。",
    ),
    "labels.changed": (
        "The settings have changed. Press Sample to draw these pictures anew.",
        "设置已改动，请点击“采样”重新生成。",
    ),
    # the rows
    "labels.row.0": ("label ignored", "不看标签"),
    "labels.row.1": ("plain conditional", "普通条件模型"),
    "labels.row.more": ("guided", "有引导"),
    "labels.away": ("{away} from s = 0", "与 s = 0 相差 {away}"),
    # the arrow
    "labels.arrow": ("What the label changes", "标签改变了什么"),
    "labels.scale": (
        "Guidance scale s: 0 ignores the label, 1 is the plain conditional model",
        "引导强度 s：0 表示不看标签，1 表示普通条件模型",
    ),
    "labels.scale.says": ("guidance scale $s={s}$", "引导强度 $s={s}$"),
    "labels.without": ("no label", "无标签"),
    "labels.with": ("with label", "有标签"),
    "labels.gap": ("difference", "差异"),
    "labels.guided": ("guided", "引导后"),
    "labels.picture": ("Picture", "第几张"),
    "labels.arrow.at": (
        "Picture {picture} of the row s = {row}, at t = {t}. Above: the predicted noise. Below: the guess "
        "$\\hat x_0$ that follows from it.",
        "s = {row} 那一行的第 {picture} 张，t = {t}。上排是预测的噪声，下排是由它推出的猜测 $\\hat x_0$。",
    ),
    "labels.arrow.finished": (
        "Picture {picture} of the row s = {row}. At t = 0 there is no noise to predict, so this is t = {t}. Above: the "
        "predicted noise. Below: the guess $\\hat x_0$ that follows from it.",
        "s = {row} 那一行的第 {picture} 张。t = 0 时没有噪声可预测，因此这里是 t = {t}。上排是预测的噪声，"
        "下排是由它推出的猜测 $\\hat x_0$。",
    ),
    "labels.arrow.waiting": (
        "The arrow appears once the rows are finished.",
        "各行完成后，这里会显示标签带来的变化。",
    ),
    "labels.arrow.noise": ("{what}: predicted noise at t = {t}", "{what}：t = {t} 时预测的噪声"),
    "labels.arrow.guess": ("{what}: guess x_0 hat at t = {t}", "{what}：t = {t} 时的猜测 x_0 hat"),
    "labels.arrow.gap": (
        "Difference of the predicted noise, times {times}, at t = {t}: root mean square {rms}",
        "预测噪声之差，放大 {times} 倍，t = {t}：均方根 {rms}",
    ),
    "labels.arrow.guess_gap": (
        "Difference of the guesses, times {times}, at t = {t}: root mean square {rms}",
        "两个猜测之差，放大 {times} 倍，t = {t}：均方根 {rms}",
    ),
    "labels.pick": ("compare with the row s = {s}", "与 s = {s} 那一行比较"),
    # which one is it?
    "which.question": ("Which one is it?", "这是哪一个？"),
    "which.body": (
        "The same network is a classifier, although nobody trained it as one. For every label $y$, the bound says "
        "with how many bits the model codes [your picture](x0) under this label, $L_y$. The fewer [bits](posterior), "
        "the likelier the label.",
        "同一个网络也是分类器，虽然没有人这样训练过它。对每个标签 $y$，变分上界给出模型在这个标签下编码"
        "[你的图像](x0)所需的比特数 $L_y$。[比特](posterior)越少，标签的可能性越大。",
    ),
    "which.try": (
        "Draw something, then change it stroke by stroke into something else. Where do the bars change their mind?",
        "画点什么，再一笔一笔把它改成别的。画到哪里，这些条会改变主意？",
    ),
    "which.why": (
        "Why are a few timesteps enough? All labels get the same timesteps and the same noise, so most of the chance "
        "in the bound cancels out in their differences. The timesteps are drawn where labels differ most.||How sure is "
        "it? Before it sees the picture, all labels are equally likely. Every bit that a label saves more than "
        "another makes it twice as likely, so a difference of 10 bits is a factor of about 1,000.||And if it is none "
        "of them? The probabilities add up to 1 whatever you draw. The bits tell more: if no label saves any against "
        "“no label”, the picture is probably none of them.||Can it be wrong? Yes, and be sure all the same: small "
        "errors of the network add up over all pixels.",
        "为什么几个时间步就够？所有标签用相同的时间步和相同的噪声，变分上界中的随机性在相减时大多抵消。"
        "时间步取在标签差别最大的地方。||它有多确定？看到图像之前，各标签的可能性相同。"
        "一个标签每比另一个多节省 1 比特，可能性就大 1 倍，因此相差 10 比特约为 1,000 倍。||"
        "如果哪个都不是呢？无论画什么，概率之和都是 1。比特数更能说明问题："
        "如果没有一个标签比“无标签”更省比特，这张图像很可能哪个都不是。||"
        "它会出错吗？会，而且可能错得很有把握：网络在各个像素上的小误差会累积起来。",
    ),
    "which.label": ("label", "标签"),
    "which.probability": ("probability $p(y\\mid x_0)$", "概率 $p(y\\mid x_0)$"),
    "which.saved": ("bits saved against no label", "比无标签节省的比特"),
    "which.saved_of": ("bits saved against label {name}", "比标签 {name} 节省的比特"),
    "which.bars": ("Probability of each label, and the bits that it saves", "各标签的概率及其节省的比特数"),
    "which.bar": (
        "{label}: {percent}, {saved}: {bits}",
        "{label}：{percent}，{saved}：{bits}",
    ),
    "which.asking": ("Measuring every label …", "正在测量每个标签……"),
    "which.waiting": ("Waiting for the model …", "等待模型……"),
    "which.part": (
        "{done} {done?timestep:timesteps} so far: “{label}” with {percent} …",
        "已用 {done} 个时间步：“{label}”，{percent}……",
    ),
    "which.done": (
        "“{label}” with {percent}, from {timesteps} {timesteps?timestep:timesteps} in {seconds} s.",
        "“{label}”，{percent}，用了 {timesteps} 个时间步，{seconds} 秒。",
    ),
    "which.stopped": ("Stopped.", "已停止。"),
    # a model without labels
    "unlabelled.question": ("Can I ask for one kind of picture?", "能指定要哪一种图像吗？"),
    "unlabelled.body": (
        "A label is the name of what a picture shows. A network that sees the labels in training can later draw what "
        "you ask for, and tell which label a picture has. It is the same network and the same loss, with one input "
        "more.",
        "标签就是图像内容的名称。训练时见过标签的网络，之后可以按要求作画，也能判断一张图像属于哪个标签。"
        "网络和损失都不变，只是多了一个输入。",
    ),
    "unlabelled.try": (
        "Train a small model with labels. On the built-in digits this takes a few minutes on an ordinary computer.",
        "训练一个带标签的小模型。用内置的手写数字，在普通电脑上只需几分钟。",
    ),
    "unlabelled.here": (
        "The model on this page was trained without labels: it draws whatever its noise leads to, and nobody can ask "
        "it for one kind of picture.",
        "本页的模型训练时没有使用标签：画什么由噪声决定，无法指定要哪一种图像。",
    ),
    "unlabelled.command": ("To train one with labels, and to show it:", "训练一个带标签的模型并展示它："),
    "unlabelled.named": ("a picture with the label {label}", "标签为 {label} 的图像"),
    "unlabelled.unnamed": ("picture {label}, which has no label", "图像 {label}，没有标签"),
    "unlabelled.others": ("These models of this page know labels: ", "本页的这些模型认识标签："),
    "unlabelled.comma": (", ", "、"),
    "unlabelled.stop": (".", "。"),
    "unlabelled.quiz": (
        "Which of the pictures above is nearest to the picture in the other tabs, pixel by pixel? That picture itself "
        "does not count.",
        "逐像素比较，上面哪一张与其他标签页中的图像最接近？那张图像本身不算。",
    ),
    "unlabelled.quiz.guess": ("My guess: picture", "我猜：图像"),
    "unlabelled.quiz.answer": (
        "Picture {best} is the nearest, {least} levels of 255 away (root mean square); picture {guess} is {away} "
        "levels away. So likeness of pixels says little about what a picture shows: labels must come from people.",
        "最接近的是图像 {best}，相差 {least} 级（共 255 级，均方根）；图像 {guess} 相差 {away} 级。"
        "可见像素相近并不说明内容相同，标签要由人来给出。",
    ),
    "unlabelled.quiz.none": (
        "Picture {guess} is the one in the other tabs, or is not there. Of the others, picture {best} is the nearest, "
        "{least} levels of 255 away (root mean square).",
        "图像 {guess} 就是其他标签页中的那张，或者不存在。"
        "其余图像中最接近的是图像 {best}，相差 {least} 级（共 255 级，均方根）。",
    ),
    "which.quiz": (
        "How many bits of the whole picture does the label save that saves most?",
        "最省比特的标签，能让整张图像省下多少比特？",
    ),
    "which.quiz.one": ("about 1", "约 1"),
    "which.quiz.three": ("about 3", "约 3"),
    "which.quiz.thirty": ("30 or more", "30 或更多"),
    "which.quiz.answer": (
        "For this picture, the label {label} saves most: {bits} bits. To name one of {count} equally likely labels "
        "takes {cost} bits, so with the right label a perfect model saves about as much on average.",
        "对这张图像，标签 {label} 最省：{bits} 比特。从 {count} 个等可能的标签中指出一个需要 {cost} 比特，"
        "因此完美的模型在给出正确标签时平均也省这么多。",
    ),
}
