// A browser refuses to start a worker from a page that is opened from disk. Then the search runs in a hidden frame instead.
if (location.protocol === "file:") window.Worker = class extends EventTarget {
  constructor(url) {
    super()
    const frame = Object.assign(document.createElement("iframe"), { hidden: true })
    document.body.append(frame)
    this.inside = frame.contentWindow
    window.addEventListener("message", event => {
      if (event.source === this.inside) this.dispatchEvent(new MessageEvent("message", { data: event.data }))
    })
    this.inside.document.write(`<script>postMessage = data => parent.postMessage(data, "*")<\/script><script src="${url}"><\/script>`)
    this.inside.document.close()
    this.ready = new Promise(done => { this.inside.onload = done })
  }
  postMessage(data) {
    this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })))
  }
}
