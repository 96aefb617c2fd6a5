//! What admission takes of a request's time and what it refuses, under upstream's names.

use std::time::Instant;

use kedge_api::Status;
use kedge_api::metrics::{Family, Source, Text};

use super::webhook::Failure;

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const HOOK_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Codes that webhooks make up beyond it count as it.
const LAST_CODE: u16 = 600;

pub struct Counted {
    steps: Family,
    plugins: Family,
    hooks: Family,
    requests: Family,
    rejections: Family,
    fail_open: Family,
}

/// Whether a request may still be changed by whoever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Admit,
    Validate,
}

impl Step {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }

    /// As upstream calls the same of webhooks.
    const fn of_hooks(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validating",
        }
    }
}

impl Default for Counted {
    fn default() -> Self {
        let named = &["name", "operation", "rejected", "type"];
        Self {
            steps: Family::histogram(
                "apiserver_admission_step_admission_duration_seconds",
                "Time of all that changes, or judges, a request.",
                &["operation", "rejected", "type"],
                SECONDS,
            ),
            plugins: Family::histogram(
                "apiserver_admission_controller_admission_duration_seconds",
                "Time of a built-in plugin.",
                named,
                SECONDS,
            ),
            hooks: Family::histogram(
                "apiserver_admission_webhook_admission_duration_seconds",
                "Time of a webhook.",
                named,
                HOOK_SECONDS,
            ),
            requests: Family::counter(
                "apiserver_admission_webhook_request_total",
                "Questions to webhooks.",
                &["code", "name", "operation", "rejected", "type"],
            ),
            rejections: Family::counter(
                "apiserver_admission_webhook_rejection_count",
                "Requests that a webhook, or its failure, refused.",
                &["error_type", "name", "operation", "rejection_code", "type"],
            ),
            fail_open: Family::counter(
                "apiserver_admission_webhook_fail_open_count",
                "Webhooks that failed and may.",
                &["name", "type"],
            ),
        }
    }
}

impl Counted {
    pub(super) fn step(&self, step: Step, operation: &str, began: Instant, rejected: bool) {
        let labels = [operation, truth(rejected), step.as_str()];
        self.steps.observe(&labels, began.elapsed().as_secs_f64());
    }

    pub(super) fn plugin(&self, name: &str, step: Step, operation: &str, began: Instant, rejected: bool) {
        let labels = [name, operation, truth(rejected), step.as_str()];
        self.plugins.observe(&labels, began.elapsed().as_secs_f64());
    }

    /// A webhook was asked; `open` is whether one that fails lets the request pass.
    pub(super) fn hook<T>(
        &self,
        name: &str,
        step: Step,
        operation: &str,
        began: Instant,
        answer: &Result<T, Failure>,
        open: bool,
    ) {
        let step = step.of_hooks();
        let (code, error) = match answer {
            Ok(_) => (200, None),
            Err(Failure::Refused(Status { reason, .. })) => (reason.code().min(LAST_CODE), Some("no_error")),
            Err(Failure::Broken(_)) => (500, Some("calling_webhook_error")),
        };
        let rejected = error.is_some() && !(open && matches!(answer, Err(Failure::Broken(_))));
        let code = code.to_string();
        self.hooks.observe(&[name, operation, truth(rejected), step], began.elapsed().as_secs_f64());
        self.requests.inc(&[&code, name, operation, truth(rejected), step]);
        match error {
            Some(error) if rejected => self.rejections.inc(&[error, name, operation, &code, step]),
            Some(_) => self.fail_open.inc(&[name, step]),
            None => {}
        }
    }
}

fn truth(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}

impl Source for Counted {
    fn tell(&self, text: &mut Text) {
        [&self.plugins, &self.steps, &self.hooks, &self.fail_open, &self.rejections, &self.requests]
            .into_iter()
            .for_each(|family| family.tell(text));
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::Reason;
    use kedge_api::metrics::Form;

    use super::*;

    #[test]
    fn who_refused_is_told_from_who_failed() {
        let counted = Counted::default();
        let began = Instant::now();
        counted.step(Step::Validate, "CREATE", began, true);
        counted.plugin("PodSecurity", Step::Validate, "CREATE", began, true);
        let refused = || Err::<(), _>(Failure::Refused(Status::new(Reason::Forbidden, "no")));
        let broken = || Err::<(), _>(Failure::Broken("gone".to_owned()));
        counted.hook("a.example.com", Step::Admit, "UPDATE", began, &Ok(()), false);
        counted.hook("a.example.com", Step::Admit, "UPDATE", began, &refused(), true);
        counted.hook("b.example.com", Step::Validate, "UPDATE", began, &broken(), true);
        counted.hook("b.example.com", Step::Validate, "UPDATE", began, &broken(), false);
        let mut text = Text::new(Form::Prometheus);
        counted.tell(&mut text);
        let report = text.finish();
        for line in [
            "step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"true\",type=\"validate\"} 1",
            "controller_admission_duration_seconds_count{name=\"PodSecurity\",operation=\"CREATE\",rejected=\"true\",type=\"validate\"} 1",
            "webhook_request_total{code=\"200\",name=\"a.example.com\",operation=\"UPDATE\",rejected=\"false\",type=\"admit\"} 1",
            "webhook_rejection_count{error_type=\"no_error\",name=\"a.example.com\",operation=\"UPDATE\",rejection_code=\"403\",type=\"admit\"} 1",
            "webhook_rejection_count{error_type=\"calling_webhook_error\",name=\"b.example.com\",operation=\"UPDATE\",rejection_code=\"500\",type=\"validating\"} 1",
            "webhook_fail_open_count{name=\"b.example.com\",type=\"validating\"} 1",
        ] {
            assert!(report.contains(&format!("apiserver_admission_{line}\n")), "{line} in {report}");
        }
    }
}
