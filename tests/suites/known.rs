//! The register of what may differ from native, and the comparison by it.

use serde::Deserialize;

use crate::{Case, Outcome};

#[derive(Deserialize)]
struct File {
    difference: Vec<Difference>,
}

#[derive(Deserialize)]
struct Difference {
    id: String,
    rule: String,
    #[serde(default)]
    suites: Vec<Shows>,
}

/// A test of a suite in which a difference shows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shows {
    suite: String,
    test: String,
    becomes: String,
    /// Every kind of mount if it is missing.
    settings: Option<Vec<String>>,
}

/// What may differ.
pub(crate) struct Register(Vec<Difference>);

/// How a suite on a mount compares with the suite natively.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judged {
    /// Tests that fail natively too.
    pub(crate) natives: usize,
    /// Known differences that showed.
    pub(crate) known: Vec<String>,
    /// What else differs, a line each.
    pub(crate) wrong: Vec<String>,
    /// What else should be told.
    pub(crate) notes: Vec<String>,
}

impl Register {
    pub(crate) fn read() -> Result<Self, String> {
        let file: File = toml::from_str(include_str!("../known-differences.toml"))
            .map_err(|error| format!("tests/known-differences.toml: {error}"))?;
        let words = file.difference.iter().flat_map(|known| &known.suites);
        for Shows { suite, test, becomes, .. } in words {
            if becomes != "skipped" && becomes != "failed" {
                let place = format!("tests/known-differences.toml: {suite} {test}");
                return Err(format!("{place}: becomes is `skipped` or `failed`, not {becomes}"));
            }
        }
        Ok(Register(file.difference))
    }

    /// Compares `mounted`, of a mount of the kind `setting`, with `native`.
    pub(crate) fn judge(
        &self,
        suite: &str,
        setting: &str,
        native: &[Case],
        mounted: &[Case],
    ) -> Judged {
        let mut judged = Judged::default();
        for case in mounted {
            let natively = native.iter().find(|other| other.name == case.name);
            let before = natively.map_or(&Outcome::Passed, |other| &other.outcome);
            let known = self.find(suite, setting, &case.name);
            let passes = case.outcome == Outcome::Passed;
            match (before, known) {
                (Outcome::Failed(_), _) if matches!(case.outcome, Outcome::Failed(_)) => {
                    judged.natives += 1;
                }
                (Outcome::Failed(said), _) => judged.notes.push(format!(
                    "{} fails natively only: {}",
                    case.name,
                    said.trim_end()
                )),
                (Outcome::Skipped(_), _) if !matches!(case.outcome, Outcome::Failed(_)) => {}
                (Outcome::Passed, None) if passes => {}
                (Outcome::Passed, Some((known, _))) if passes => judged.notes.push(format!(
                    "{} differs no more: take it out of {} in tests/known-differences.toml",
                    case.name, known.id
                )),
                (_, Some((known, becomes))) if becomes == case.outcome.word() => {
                    judged.known.push(known.id.clone());
                }
                _ => judged.wrong.push(format!(
                    "{suite} {}: natively {}, {setting} {}: {}",
                    case.name,
                    before.word(),
                    case.outcome.word(),
                    case.outcome.text().trim_end()
                )),
            }
        }
        for case in native.iter().filter(|case| case.outcome == Outcome::Passed) {
            if !mounted.iter().any(|other| other.name == case.name) {
                let name = &case.name;
                judged.wrong.push(format!("{suite} {name}: not played on {setting}"));
            }
        }
        judged
    }

    fn find(&self, suite: &str, setting: &str, test: &str) -> Option<(&Difference, &str)> {
        self.0.iter().find_map(|known| {
            let shows = known.suites.iter().find(|shows| {
                let settings = shows.settings.as_ref();
                shows.suite == suite
                    && shows.test == test
                    && settings.is_none_or(|all| all.iter().any(|one| one == setting))
            })?;
            Some((known, shows.becomes.as_str()))
        })
    }

    /// The rule of the kernel behind the difference `id`.
    pub(crate) fn rule(&self, id: &str) -> &str {
        self.0.iter().find(|known| known.id == id).map_or("", |known| &known.rule)
    }
}
