/**
 * The page's style. Series colours are those of Okabe and Ito, which people with any colour vision tell
 * apart; the dark ones are lighter versions with the same order of hues.
 */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1d2127; --soft: #6b7280; --line: #d9dde3;
  --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73;
  --series-3: #b35a92; --series-4: #3a9bd6; --series-5: #c98a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171c; --card: #1d2127; --ink: #e6e9ee; --soft: #9aa3af; --line: #363c46;
    --series-0: #56b4e9; --series-1: #f0803c; --series-2: #35c79b;
    --series-3: #dd9bc4; --series-4: #9fd3f5; --series-5: #f0c24b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 24px; margin: 8px 0 20px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 6px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 20px; margin: 0 0 16px; }
p { margin: 0 0 8px; }
.missing { color: var(--soft); font-style: italic; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 4px; padding: 0; font-size: 13px; }
.legend i { font-style: normal; margin-right: 6px; }
svg { --plot-background: var(--card); color: var(--ink); width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
#device td:first-child { white-space: nowrap; }
#numbers th, #numbers td { text-align: right; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; font-weight: 600; }
`;
