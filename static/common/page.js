// What every page does: the viewer's zone, light and dark, menus, dialogs, forms sent once.

const YEAR_S = 31_536_000;

function setCookie(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=${YEAR_S}; samesite=lax`;
}

// --- Times are rendered by the server in the viewer's zone -------------------------------------------------
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.includes(`timezone=${zone}`)) setCookie("timezone", zone);

// --- Light, dark, or as the system. The server reads the cookie, so no page flashes in the other one -------
const THEMES = ["auto", "light", "dark"];
const root = document.documentElement;
const themeButton = document.querySelector("[data-theme-toggle]");

function showTheme(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  const label = themeButton.dataset[`label${theme[0].toUpperCase()}${theme.slice(1)}`];
  themeButton.querySelector(".visually-hidden").textContent = label;
  themeButton.title = label;
}

if (themeButton) {
  showTheme(root.dataset.theme ?? "auto");
  themeButton.addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
    setCookie("theme", theme);
    showTheme(theme);
  });
}

// --- Menus close by Escape, and by a click or focus elsewhere ----------------------------------------------
function closeMenus(except) {
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(except)) menu.open = false;
  }
}
document.addEventListener("click", (event) => closeMenus(event.target));
document.addEventListener("focusin", (event) => closeMenus(event.target));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details[data-menu][open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// --- <button data-dialog="id"> opens <dialog id="id">; [data-dialog-close] in it closes --------------------
document.addEventListener("click", (event) => {
  const opener = event.target.closest?.("[data-dialog]");
  if (opener) {
    event.preventDefault();
    document.getElementById(opener.dataset.dialog).showModal();
  } else if (event.target.closest?.("[data-dialog-close]")) {
    event.target.closest("dialog").close();
  } else if (event.target.matches?.("dialog.dialog")) {
    event.target.close(); // the backdrop belongs to the dialog element itself
  }
});

// --- A form is sent once, however fast the finger ----------------------------------------------------------
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
});
for (const happening of ["pageshow", "htmx:afterRequest"]) {
  addEventListener(happening, () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });
}
