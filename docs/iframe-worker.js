// A page that is opened from the disk may start no Worker: the search runs in a hidden frame instead. Served pages keep Workers.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc =
        "<script>self.postMessage = data => parent.postMessage(data, '*')</" + "script>" +
        `<script src="${new URL(url, document.baseURI)}"></` + "script>";
      this.ready = new Promise(done => frame.addEventListener("load", () => done(frame.contentWindow)));
      window.addEventListener("message", event => {
        if (event.source !== frame.contentWindow) return;
        const told = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(told);
        if (this.onmessage) this.onmessage(told);
      });
      document.body.append(frame);
      this.frame = frame;
    }

    postMessage(data) {
      this.ready.then(frame => window.postMessage.call(frame, data, "*"));  // the frame's own goes the other way
    }

    terminate() {
      this.frame.remove();
    }
  };
}
