// Before the first paint, so that nobody who chose a theme sees the other one.
try {
  const theme = localStorage.getItem("penstock.theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage can be off; the system's theme it is.
}
