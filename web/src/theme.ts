// Light, dark, or as the system says. Pictures stay on black in both: their grey values are what is looked at.

export type Theme = "auto" | "light" | "dark";

export function readTheme(): Theme {
  const stored = localStorage.getItem("isocenter.theme");
  return stored === "light" || stored === "dark" ? stored : "auto";
}

export function applyTheme(theme: Theme): void {
  if (theme === "auto") localStorage.removeItem("isocenter.theme");
  else localStorage.setItem("isocenter.theme", theme);
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}
