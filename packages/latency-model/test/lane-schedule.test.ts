import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LaneSchedule } from "../src/lane-schedule.js";
import { naiveMakespan } from "./naive.js";
import { check } from "./property.js";

describe("busiest lane", () => {
  const schedule = new LaneSchedule(256);
  const jobs = fc.array(fc.integer({ min: 0, max: 1000 }), { maxLength: 400 });
  const lanes = fc.integer({ min: 1, max: 256 });

  test.each([
    ["one lane: the sum", [3, 1, 2], 1, 6],
    ["a lane for each job: the longest", [3, 1, 2], 3, 3],
    ["more lanes than jobs", [3, 1, 2], 200, 3],
    ["in order, to the lane that is free first", [3, 1, 2, 4], 2, 7],
    ["no jobs", [], 4, 0],
  ])("%s", (_, times, count, expected) => {
    expect(schedule.busiestNs(Float64Array.from(times), times.length, count)).toBe(expected);
  });

  test("P5: agrees with searching all lanes, one schedule used for all", () => {
    check(
      fc.property(jobs, lanes, (times, count) => {
        const busiest = schedule.busiestNs(Float64Array.from(times), times.length, count);
        expect(busiest).toBe(naiveMakespan(times, count));
      }),
      300,
    );
  });

  test("never falls when a job grows or is added anywhere", () => {
    const extra = fc.integer({ min: 0, max: 1000 });
    check(
      fc.property(jobs, lanes, fc.nat(), extra, (times, count, pick, more) => {
        const at = pick % (times.length + 1);
        const before = schedule.busiestNs(Float64Array.from(times), times.length, count);
        const inserted = Float64Array.from([...times.slice(0, at), more, ...times.slice(at)]);
        expect(schedule.busiestNs(inserted, inserted.length, count)).toBeGreaterThanOrEqual(before);
        const grown = Float64Array.from(times, (time, i) => (i === at ? time + more : time));
        expect(schedule.busiestNs(grown, grown.length, count)).toBeGreaterThanOrEqual(before);
      }),
    );
  });
});
