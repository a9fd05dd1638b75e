//! Which failed attempts are repeated, and when.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::error::Error;

/// How a call is repeated within itself. [`crate::Mailbox::send`] never is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Repetitions after the first attempt.
    pub retries: u32,
    /// Upper bound of the first wait; it doubles with each repetition.
    pub base: Duration,
    /// How long `Retry-After` is waited for inside the call, in all its repetitions together; a longer one is
    /// returned at once with the error.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 3,
            base: Duration::from_millis(500),
            max_retry_after: Duration::from_mins(1),
        }
    }
}

impl RetryPolicy {
    /// No repetition at all.
    #[must_use]
    pub fn none() -> Self {
        Self {
            retries: 0,
            ..Self::default()
        }
    }

    /// The wait after failed attempt number `attempt` (from 1), for a call that has `waited` so long already, or `None`
    /// to give up.
    pub(crate) fn wait(&self, attempt: u32, waited: Duration, error: &Error) -> Option<Duration> {
        if attempt > self.retries || !is_transient(error) {
            return None;
        }
        match error.retry_after() {
            Some(asked) if waited.saturating_add(asked) > self.max_retry_after => None,
            Some(asked) => Some(asked.max(self.backoff(attempt))),
            None => Some(self.backoff(attempt)),
        }
    }

    /// Full jitter: clients that failed together must not come back together.
    fn backoff(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.base.saturating_mul(factor).mul_f64(fastrand::f64())
    }
}

/// 425, 429, 502, 503, 504 and faults of the connection. 500 is not: MESH answers it to requests
/// that it can't cope with, such as a forged paging link.
fn is_transient(error: &Error) -> bool {
    match error {
        Error::Throttled { .. } | Error::NotConnected(_) | Error::Interrupted(_) => true,
        Error::Unavailable { detail, .. } => matches!(detail.status, 502..=504),
        _ => false,
    }
}

/// `Retry-After`, which is a number of seconds or an HTTP date.
pub(crate) fn parse_retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some((date - now).try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn answer(status: u16, retry_after: Option<u64>) -> Error {
        Error::from_answer(status, retry_after.map(Duration::from_secs), b"")
    }

    fn broken() -> Error {
        Error::Interrupted("reset".into())
    }

    #[test]
    fn transient_failures_are_repeated_and_definite_ones_are_not() {
        let policy = RetryPolicy::default();
        for status in [425, 429, 502, 503, 504] {
            assert!(
                policy
                    .wait(1, Duration::ZERO, &answer(status, None))
                    .is_some(),
                "{status}"
            );
        }
        assert!(policy.wait(1, Duration::ZERO, &broken()).is_some());
        assert!(
            policy
                .wait(1, Duration::ZERO, &Error::NotConnected("dns".into()))
                .is_some()
        );
        for status in [300, 400, 401, 403, 404, 406, 410, 417, 422, 423, 500, 501] {
            assert!(
                policy
                    .wait(1, Duration::ZERO, &answer(status, None))
                    .is_none(),
                "{status}"
            );
        }
        assert!(
            policy
                .wait(1, Duration::ZERO, &Error::InvalidBody("gzip".into()))
                .is_none()
        );
    }

    #[test]
    fn the_wait_doubles_has_jitter_and_ends() {
        let policy = RetryPolicy::default();
        for (attempt, bound) in [(1, 500), (2, 1000), (3, 2000)] {
            let waits: Vec<_> = (0..200)
                .map(|_| policy.wait(attempt, Duration::ZERO, &broken()).unwrap())
                .collect();
            let bound = Duration::from_millis(bound);
            assert!(waits.iter().all(|wait| *wait <= bound));
            assert!(waits.iter().any(|wait| *wait > bound / 2));
            assert!(waits.iter().any(|wait| *wait < bound / 2));
        }
        assert_eq!(policy.wait(4, Duration::ZERO, &broken()), None);
        assert_eq!(RetryPolicy::none().wait(1, Duration::ZERO, &broken()), None);
    }

    #[test]
    fn retry_after_is_honoured_up_to_its_limit() {
        let policy = RetryPolicy::default();
        let wait = |waited, seconds| {
            policy.wait(2, Duration::from_secs(waited), &answer(429, Some(seconds)))
        };
        assert_eq!(wait(0, 7), Some(Duration::from_secs(7)));
        assert_eq!(wait(0, 60), Some(Duration::from_mins(1)));
        assert_eq!(wait(0, 61), None);
        assert_eq!(wait(50, 10), Some(Duration::from_secs(10)));
        assert_eq!(wait(50, 11), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = datetime!(2026-01-15 12:00 UTC);
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Thu, 15 Jan 2026 12:00:30 GMT", Some(30)),
            ("Thu, 15 Jan 2026 11:00:00 GMT", Some(0)),
            ("-5", None),
            ("soon", None),
        ] {
            assert_eq!(
                parse_retry_after(value, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
