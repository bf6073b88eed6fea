"""The TeX of every symbol and equation of the page, the same in every language."""

from __future__ import annotations

EQUATIONS: dict[str, str] = {
    # \htmlData{of=...} names the picture that a symbol stands for; the page outlines it on hover.
    "x0": r"x_0",
    "xt": r"x_t",
    "eps": r"\epsilon",
    "x0_hat": r"\hat x_0",
    "eps_hat": r"\hat\epsilon",
    "t": r"t",
    "beta": r"\beta_t",
    "alpha_bar": r"\bar\alpha_t",
    "snr": r"\mathrm{SNR}_t",
    "times": r"\times",
    "plus": r"+",
    "equals": r"=",
    "forward": r"\htmlData{of=xt}{x_t}=\htmlData{of=alpha_bar}{\sqrt{\bar\alpha_t}}\,\htmlData{of=x0}{x_0}"
    r"+\htmlData{of=alpha_bar}{\sqrt{1-\bar\alpha_t}}\,\htmlData{of=eps}{\epsilon}",
    "reverse": r"x_{t-1}=\frac{1}{\sqrt{\alpha_t}}\Big(\htmlData{of=xt}{x_t}-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,"
    r"\htmlData{of=eps_hat}{\hat\epsilon}\Big)+\sigma_t z",
    "x0_second": r"x_0'",
    "mixture": r"(1-\lambda)x_0+\lambda x_0'",
    "xt_mixture": r"\bar x_{t_0}",
    "denoised": r"\bar x_0",
    "mine": r"\begin{aligned}\htmlData{of=xt}{x_{t_0}}&=\sqrt{\bar\alpha_{t_0}}\,\htmlData{of=x0}{x_0}"
    r"+\sqrt{1-\bar\alpha_{t_0}}\,\epsilon\\[3pt]"
    r"\htmlData{of=xt_mixture}{\bar x_{t_0}}&=(1-\lambda)\,\htmlData{of=xt}{x_{t_0}}+\lambda\,x_{t_0}'\\[3pt]"
    r"\htmlData{of=denoised}{\bar x_0}&\sim p_\theta(x_0\mid\htmlData{of=xt_mixture}{\bar x_{t_0}})\end{aligned}",
    "walk": r"x_0(\lambda)",
    "torn": r"m",
    "plain": r"r=1",
    "filled": r"r=11",
    "fill": r"\begin{aligned}k&=\sqrt{\bar\alpha_{t-1}}\,\htmlData{of=x0}{x_0}+\sqrt{1-\bar\alpha_{t-1}}\,\epsilon\\"
    r"x_{t-1}&=(1-\htmlData{of=torn}{m})\,k+\htmlData{of=torn}{m}\,(\mu_\theta+\sigma_t z)\\[3pt]"
    r"\htmlData{of=filled}{x_{t+j}}&=\sqrt{\tfrac{\bar\alpha_{t+j}}{\bar\alpha_t}}\,x_t"
    r"+\sqrt{1-\tfrac{\bar\alpha_{t+j}}{\bar\alpha_t}}\;\epsilon'\end{aligned}",
    "code": r"x_T",
    "decoded": r"x_0'",
    "invert": r"\begin{aligned}\mathrm d\frac{x_t}{\sqrt{\bar\alpha_t}}&=\epsilon_\theta(x_t,t)\,"
    r"\mathrm d\sqrt{\tfrac{1-\bar\alpha_t}{\bar\alpha_t}}\\[3pt]\htmlData{of=x0}{x_0}&\to\htmlData{of=code}{x_T}"
    r"\to\htmlData{of=decoded}{x_0'}\end{aligned}",
    "prior": r"L_T",
    "kl": r"\sum_{t>1} L_{t-1}",
    "reconstruction": r"L_0",
    "total": r"L",
    "weight": r"w_t",
    "bound": r"\begin{aligned}\htmlData{of=total}{L}&=\htmlData{of=prior}{L_T}"
    r"+\htmlData{of=kl}{\textstyle\sum_{t>1}L_{t-1}}+\htmlData{of=reconstruction}{L_0}\\[5pt]"
    r"L_{t-1}&=\underbrace{\frac{\beta_t^2}{2\sigma_t^2\alpha_t(1-\bar\alpha_t)}}_{w_t}"
    r"\,\big\Vert\epsilon-\hat\epsilon\big\Vert^2\end{aligned}",
    "simple": r"L_\mathrm{simple}=\big\Vert\htmlData{of=eps}{\epsilon}"
    r"-\htmlData{of=eps_hat}{\epsilon_\theta}(\htmlData{of=xt}{x_t},t)\big\Vert^2",
    "eps_difference": r"\hat\epsilon-\epsilon",
    "x0_difference": r"\hat x_0-x_0",
    "mu": r"\tilde\mu_t",
    "mu_hat": r"\mu_\theta",
    "mu_difference": r"\mu_\theta-\tilde\mu_t",
    "v": r"v",
    "v_hat": r"\hat v",
    "v_difference": r"\hat v-v",
    "read_eps": r"\htmlData{of=eps_hat}{\hat\epsilon}=\epsilon_\theta(\htmlData{of=xt}{x_t},t)",
    "read_x0": r"\htmlData{of=x0_hat}{\hat x_0}=\frac{\htmlData{of=xt}{x_t}-\sqrt{1-\bar\alpha_t}\,\hat\epsilon}"
    r"{\sqrt{\bar\alpha_t}}",
    "read_mu": r"\htmlData{of=mu_hat}{\mu_\theta}=\frac{1}{\sqrt{\alpha_t}}\Big(\htmlData{of=xt}{x_t}"
    r"-\tfrac{\beta_t}{\sqrt{1-\bar\alpha_t}}\hat\epsilon\Big)",
    "read_v": r"\htmlData{of=v_hat}{\hat v}=\sqrt{\bar\alpha_t}\,\hat\epsilon-\sqrt{1-\bar\alpha_t}\,"
    r"\htmlData{of=x0_hat}{\hat x_0}",
    "ddim": r"\begin{aligned}x_{s}={}&\sqrt{\bar\alpha_s}\,\htmlData{of=x0_hat}{\hat x_0}\\"
    r"&+\sqrt{1-\bar\alpha_s-\sigma_t^2}\;\htmlData{of=eps_hat}{\hat\epsilon}+\sigma_t z\end{aligned}",
    "ancestral": r"\begin{aligned}x_{t-1}&=\tilde\mu_t(\htmlData{of=xt}{x_t},\htmlData{of=x0_hat}{\hat x_0})"
    r"+\sigma_t z\\z&\sim\mathcal N(0,I)\ \ (t>1)\\z&=0\ \ (t=1)\end{aligned}",
    "eps_0": r"\epsilon_0",
    "eps_c": r"\epsilon_c",
    "eps_gap": r"\epsilon_c-\epsilon_0",
    "guidance": r"\htmlData{of=eps_s}{\hat\epsilon}=\htmlData{of=eps_0}{\epsilon_0}"
    r"+s\,\htmlData{of=eps_gap}{(\epsilon_c-\epsilon_0)}",
    "tilted": r"p_s(x_t\mid c)\;\propto\;p(x_t)\;p(c\mid x_t)^{s}",
    "posterior": r"p(y\mid\htmlData{of=x0}{x_0})=\frac{e^{-L_y}}{\sum_{k}e^{-L_k}}",
    "training": r"\begin{aligned}t&\sim\mathrm{U}(1\dots T),\quad\epsilon\sim\mathcal N(0,I)\\[3pt]"
    r"\theta&\leftarrow\theta-\eta\,\nabla_{\!\theta}\,\htmlData{of=loss}{\big\Vert\epsilon"
    r"-\epsilon_\theta(x_t,t)\big\Vert^2}\end{aligned}",
    "guess": r"\htmlData{of=x0_hat}{\hat x_0}=\frac{\htmlData{of=xt}{x_t}-\sqrt{1-\bar\alpha_t}\,"
    r"\htmlData{of=eps_hat}{\hat\epsilon}}{\sqrt{\bar\alpha_t}}",
}
"""name -> TeX; the same in every language."""
