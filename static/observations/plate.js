// A picture without boxes (none found, or not looked at yet) can be zoomed all the same.
import { Zoom } from "./zoom.js";

new Zoom(document.querySelector("[data-plate]"), () => {});
