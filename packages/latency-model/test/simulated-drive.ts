/**
 * A drive and its reader, simulated event by event, as a witness that shares nothing with the batch model: a host
 * that submits one request at a time with at most `depth` in flight, requests cut into pages, flash dies that
 * serve one page at a time, and one bus that carries one page at a time.
 */
export interface Drive {
  readonly dies: number;
  /** Time of a die to find a page, ns; log-normal with `jitter`. */
  readonly accessNs: number;
  readonly jitter: number;
  readonly busNsPerByte: number;
  /** Pieces that a request is cut into; each goes to the next die. */
  readonly pageBytes: number;
  /** `random`: a request starts at any die, so some wait for each other. `free`: at the one that is free first. */
  readonly placement: "random" | "free";
  readonly submitNs: number;
  readonly completeNs: number;
  /** Cost of any batch, ns. */
  readonly batchNs: number;
  readonly depth: number;
}

export const DRIVES: Readonly<Record<string, Drive>> = {
  "an NVMe drive through a deep queue": {
    ...{ dies: 64, accessNs: 60e3, jitter: 0.1, busNsPerByte: 0.2, pageBytes: 16384 },
    ...{ placement: "random", submitNs: 1500, completeNs: 2000, batchNs: 20e3, depth: 128 },
  },
  "an NVMe drive through a pool of 6 threads": {
    ...{ dies: 32, accessNs: 50e3, jitter: 0.1, busNsPerByte: 0.3, pageBytes: 16384 },
    ...{ placement: "random", submitNs: 3000, completeNs: 3000, batchNs: 30e3, depth: 6 },
  },
  "a cloud volume": {
    ...{ dies: 64, accessNs: 250e3, jitter: 0.15, busNsPerByte: 1, pageBytes: 2 ** 30 },
    ...{ placement: "free", submitNs: 3000, completeNs: 2000, batchNs: 20e3, depth: 64 },
  },
  "an eMMC chip": {
    ...{ dies: 4, accessNs: 120e3, jitter: 0.1, busNsPerByte: 3, pageBytes: 2 ** 30 },
    ...{ placement: "free", submitNs: 5000, completeNs: 5000, batchNs: 50e3, depth: 32 },
  },
};

export type Random = () => number;

/** Uniform in [0, 1) from a seed (mulberry32). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What happens when, the earliest first: a binary heap. */
class Agenda {
  readonly #events: { readonly atNs: number; readonly happen: () => void }[] = [];
  nowNs = 0;

  in(delayNs: number, happen: () => void): void {
    const events = this.#events;
    const event = { atNs: this.nowNs + delayNs, happen };
    let at = events.push(event) - 1;
    for (let parent; at > 0 && events[(parent = (at - 1) >> 1)].atNs > event.atNs; at = parent) {
      events[at] = events[parent];
    }
    events[at] = event;
  }

  run(): void {
    const events = this.#events;
    for (let first = events[0]; first !== undefined; first = events[0]) {
      const last = events.pop()!;
      let at = 0;
      for (let child = 1; child < events.length; child = 2 * at + 1) {
        if (events[child + 1]?.atNs < events[child].atNs) child++;
        if (events[child].atNs >= last.atNs) break;
        events[at] = events[child];
        at = child;
      }
      if (events.length > 0) events[at] = last;
      this.nowNs = first.atNs;
      first.happen();
    }
  }
}

/** One that serves jobs in the order they come; a job calls `done` when it is over. */
class Server {
  readonly #waiting: ((done: () => void) => void)[] = [];
  load = 0;

  take(job: (done: () => void) => void): void {
    this.load++;
    if (this.load > 1) this.#waiting.push(job);
    else this.#serve(job);
  }

  #serve(job: (done: () => void) => void): void {
    job(() => {
      this.load--;
      const next = this.#waiting.shift();
      if (next !== undefined) this.#serve(next);
    });
  }
}

/** Time from the start of a batch to its last completion, ns. */
export function batchNs(drive: Drive, sizesBytes: readonly number[], random: Random): number {
  const agenda = new Agenda();
  const dies = Array.from({ length: drive.dies }, () => new Server());
  const bus = new Server();
  let next = 0;
  let inFlight = 0;
  let submitting = false;

  const submit = (): void => {
    if (submitting || next === sizesBytes.length || inFlight === drive.depth) return;
    submitting = true;
    inFlight++;
    const sizeBytes = sizesBytes[next++];
    agenda.in(drive.submitNs, () => {
      submitting = false;
      serve(sizeBytes);
      submit();
    });
  };
  const serve = (sizeBytes: number): void => {
    const pages = Math.ceil(sizeBytes / drive.pageBytes);
    const firstDie = Math.floor(random() * drive.dies);
    let left = pages;
    const complete = (): void => {
      inFlight--;
      submit();
    };
    for (let page = 0; page < pages; page++) {
      const die =
        drive.placement === "random" ? dies[(firstDie + page) % drive.dies] : idlest(dies);
      die.take((dieDone) => {
        agenda.in(accessNs(drive, random), () => {
          bus.take((busDone) => {
            agenda.in((sizeBytes / pages) * drive.busNsPerByte, () => {
              busDone();
              dieDone();
              if (--left === 0) agenda.in(drive.completeNs, complete);
            });
          });
        });
      });
    }
  };
  agenda.in(drive.batchNs, submit);
  agenda.run();
  return agenda.nowNs;
}

function accessNs({ accessNs: medianNs, jitter }: Drive, random: Random): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return medianNs * Math.exp(jitter * normal);
}

function idlest(servers: readonly Server[]): Server {
  return servers.reduce((best, server) => (server.load < best.load ? server : best));
}

/** The median of some runs of a batch, as a profiler measures it. */
export function medianBatchNs(
  drive: Drive,
  sizesBytes: readonly number[],
  random: Random,
  runs = 5,
): number {
  const times = Array.from({ length: runs }, () => batchNs(drive, sizesBytes, random));
  return times.sort((a, b) => a - b)[runs >> 1];
}
