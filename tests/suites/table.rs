//! What was played, as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use serde_json::{Value, json};

use crate::known::{Judged, Register};
use crate::{Case, Outcome};

/// A suite in one setting.
struct Row {
    suite: &'static str,
    setting: &'static str,
    cases: Vec<Case>,
    took: Duration,
    /// Nothing for native itself.
    judged: Option<Judged>,
}

impl Row {
    fn count(&self, word: &str) -> usize {
        self.cases.iter().filter(|case| case.outcome.word() == word).count()
    }
}

/// All that was played.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn add(
        &mut self,
        suite: &'static str,
        setting: &'static str,
        (cases, took): (Vec<Case>, Duration),
        judged: Option<Judged>,
    ) {
        self.0.push(Row { suite, setting, cases, took, judged });
    }

    fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.0.iter().collect();
        rows.sort_by_key(|row| (row.suite, row.judged.is_some(), row.setting));
        rows
    }

    /// A table for people, with the rule behind each difference that showed.
    pub(crate) fn text(&self, register: &Register) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header([
            "suite",
            "on",
            "passed",
            "skipped",
            "failed",
            "natively too",
            "known",
            "unexpected",
            "seconds",
        ]);
        let (mut ids, mut notes) = (Vec::new(), Vec::new());
        for row in self.rows() {
            let judged = row.judged.clone().unwrap_or_default();
            table.add_row([
                row.suite.to_owned(),
                row.setting.to_owned(),
                row.count("passed").to_string(),
                row.count("skipped").to_string(),
                row.count("failed").to_string(),
                judged.natives.to_string(),
                judged.known.len().to_string(),
                judged.wrong.len().to_string(),
                format!("{:.1}", row.took.as_secs_f64()),
            ]);
            ids.extend(judged.known);
            notes.extend(judged.notes.iter().map(|note| format!("{}: {note}", row.setting)));
        }
        ids.sort();
        ids.dedup();
        let mut text = format!("\n{table}\n");
        for id in ids {
            let _ = writeln!(text, "known difference {id}: {}", register.rule(&id).trim());
        }
        for note in notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    /// The same for programs: every test that did not pass, and why.
    pub(crate) fn json(&self) -> String {
        let row = |row: &&Row| {
            let odd = row.cases.iter().filter(|case| case.outcome != Outcome::Passed);
            let odd: Vec<Value> = odd
                .map(|Case { name, outcome }| {
                    json!({ "test": name, "became": outcome.word(), "said": outcome.text() })
                })
                .collect();
            let judged = row.judged.clone().unwrap_or_default();
            json!({
                "suite": row.suite,
                "on": row.setting,
                "seconds": row.took.as_secs_f64(),
                "passed": row.count("passed"),
                "skipped": row.count("skipped"),
                "failed": row.count("failed"),
                "failed_natively_too": judged.natives,
                "known": judged.known,
                "unexpected": judged.wrong,
                "not_passed": odd,
            })
        };
        let rows: Vec<Value> = self.rows().iter().map(row).collect();
        format!("{:#}\n", json!({ "version": 1, "suites": rows }))
    }
}
