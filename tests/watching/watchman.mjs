// Who watches which alerts fire, and writes down for each rule the fault that made it fire.

export class Watchman {
  constructor(prometheus, names, say) {
    Object.assign(this, { prometheus, names, say, rows: new Map(), seen: new Map(), missing: [] });
  }

  /** Whether an alert fires that has these labels. */
  async fires(name, labels) {
    const firing = await this.prometheus.firing();
    return firing.find((alert) => alert.labels.alertname === name && Object.entries(labels).every(([label, value]) => alert.labels[label] === value));
  }

  /** Nothing fires of these processes: a rule that fires without a fault says nothing when it fires. */
  async quiet(nodes) {
    const firing = await this.prometheus.firing();
    const loud = firing.filter(({ labels }) => nodes.some((node) => node.instance === labels.instance));
    if (loud.length) throw new Error(`these fire before any fault: ${loud.map(({ labels }) => `${labels.alertname} (${labels.job})`).join(', ')}`);
  }

  /**
   * The fault is there: the rule must fire for `labels` within so many seconds. What does not is written down and told
   * at the end, so that one that is blind hides no other.
   */
  async expect(name, fault, labels, { within = 60, meanwhile } = {}) {
    if (!this.names.has(name)) throw new Error(`there is no rule ${name}`);
    const begun = Date.now();
    const end = begun + within * 1000;
    for (;;) {
      const alert = await this.fires(name, labels);
      if (alert) {
        const after = Math.round((Date.now() - begun) / 1000);
        this.rows.set(name, { fault, after, summary: alert.annotations.summary });
        this.say(`${name} fired after ${after} s: ${alert.annotations.summary}`);
        return;
      }
      if (Date.now() > end) {
        this.missing.push(`${name} did not fire within ${within} s of this fault: ${fault}`);
        this.say(this.missing.at(-1));
        return;
      }
      await meanwhile?.();
      await new Promise((then) => { setTimeout(then, 500); });
    }
  }
}
