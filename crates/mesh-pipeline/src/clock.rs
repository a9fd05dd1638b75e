//! Time as rows and leases keep it.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};

// Fixed width and UTC, so that texts sort as times do: the indexes rely on it.
const ISO_MILLIS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The current time in UTC.
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// ISO 8601 in UTC with milliseconds, for example `2026-01-15T12:34:00.000Z`.
pub fn iso(time: OffsetDateTime) -> String {
    time.to_offset(UtcOffset::UTC)
        .format(ISO_MILLIS)
        .unwrap_or_default()
}

/// A time that [`iso`] wrote, or RFC 3339 as AWS events have it; in UTC.
pub fn parse_iso(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .ok()?
        .checked_to_offset(UtcOffset::UTC)
}

/// How long a message waits after so many failed attempts: 15 minutes, doubled each time, a day at most.
pub fn backoff(attempts_over: u32) -> Duration {
    Duration::minutes(15 * (1 << attempts_over.min(7))).min(Duration::days(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_a_fixed_width_and_read_back() {
        let time = OffsetDateTime::from_unix_timestamp(1_768_480_440).unwrap();
        assert_eq!(iso(time), "2026-01-15T12:34:00.000Z");
        assert_eq!(parse_iso(&iso(time)), Some(time));
    }

    #[test]
    fn a_time_that_is_too_late_for_utc_is_none() {
        let text = "9999-12-31T23:59:59";
        assert!(parse_iso(&format!("{text}Z")).is_some());
        assert_eq!(parse_iso(&format!("{text}-01:00")), None);
    }

    #[test]
    fn the_wait_doubles_up_to_a_day() {
        assert_eq!(backoff(0), Duration::minutes(15));
        assert_eq!(backoff(2), Duration::hours(1));
        assert_eq!(backoff(40), Duration::days(1));
    }
}
