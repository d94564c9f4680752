/** An answer is right when it is the expected words, whatever the case and the final stop. */
export function isRight(answer: string, expected: string): boolean {
  const normalise = (text: string): string => text.trim().toLowerCase().replace(/\.$/, "");
  return normalise(answer) === normalise(expected);
}
