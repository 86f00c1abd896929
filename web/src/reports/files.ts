// Files behind the token: fetched by the page, and handed to the browser as a download or a picture.

import { errorText, type App } from "../app";

export async function download(app: App, url: string, name: string): Promise<void> {
  try {
    const response = await app.api.request(url);
    const address = URL.createObjectURL(await response.blob());
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  } catch (error) {
    app.notify(errorText(error), "error");
  }
}

/** Put a picture of the server into an element; what it takes is let go with the answer. */
export function picture(app: App, image: HTMLImageElement, url: string): () => void {
  let address = "";
  let ended = false;
  app.api.request(url).then(async (response) => {
    const blob = await response.blob();
    if (ended) return;
    address = URL.createObjectURL(blob);
    image.src = address;
  }, () => image.replaceWith("The picture could not be loaded."));
  return () => {
    ended = true;
    if (address) URL.revokeObjectURL(address);
  };
}
