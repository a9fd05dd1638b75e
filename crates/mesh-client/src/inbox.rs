//! The inbox, page by page.

use std::fmt;

use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::client::Mailbox;
use crate::error::Error;
use crate::id::MessageId;
use crate::request::json;

/// One page of the inbox. It can be empty and still have a next one.
#[derive(Debug, Clone)]
pub struct InboxPage {
    /// Messages that wait, in MESH's order.
    pub messages: Vec<MessageId>,
    /// Entries of the page that are no message id and are left out: too long, with control characters, or no text.
    pub unusable: usize,
    /// The following page. Follow it before anything of this page is acknowledged: otherwise MESH
    /// may start from the top again.
    pub next: Option<NextPage>,
    /// MESH's estimate of all waiting messages.
    pub approx_inbox_count: Option<u64>,
}

/// The way to a following page: path and query as MESH encoded them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NextPage(String);

impl fmt::Debug for NextPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NextPage")
    }
}

#[derive(Deserialize)]
struct Answer {
    messages: Vec<Entry>,
    #[serde(default)]
    links: Links,
    approx_inbox_count: Option<u64>,
}

// One entry that can't be read must not keep the others of its page from being received.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Id(MessageId),
    Unusable(IgnoredAny),
}

#[derive(Deserialize, Default)]
struct Links {
    next: Option<String>,
}

impl Mailbox {
    /// The first page: up to `max_results` (10 to 5,000) ids.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn inbox(&self, max_results: u32) -> Result<InboxPage, Error> {
        if !(10..=5000).contains(&max_results) {
            return Err(Error::configuration(format!(
                "an inbox page of {max_results} ids was asked for; MESH gives 10 to 5000"
            )));
        }
        self.page(&format!("/inbox?max_results={max_results}"))
            .await
    }

    /// A following page.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with status 500 also if MESH no longer knows the link: list again
    /// from the start. Otherwise see [`Error`].
    pub async fn inbox_next(&self, next: &NextPage) -> Result<InboxPage, Error> {
        self.page(&next.0).await
    }

    async fn page(&self, path: &str) -> Result<InboxPage, Error> {
        let call = self.call("inbox", Method::GET, path);
        let answer: Answer = json(self.execute(&call, &Bytes::new()).await?).await?;
        let listed = answer.messages.len();
        let messages: Vec<_> = answer
            .messages
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Id(id) => Some(id),
                Entry::Unusable(_) => None,
            })
            .collect();
        let next = answer.links.next.filter(|link| !link.is_empty());
        Ok(InboxPage {
            unusable: listed - messages.len(),
            messages,
            next: next.map(|link| self.next_page(&link)).transpose()?,
            approx_inbox_count: answer.approx_inbox_count,
        })
    }

    /// Takes only a link into this mailbox's own inbox: each request carries a token.
    fn next_page(&self, link: &str) -> Result<NextPage, Error> {
        let own = format!("/messageexchange/{}", self.id);
        let query = link
            .get(..own.len())
            .filter(|start| start.eq_ignore_ascii_case(&own))
            .and_then(|_| link.get(own.len()..))
            .filter(|rest| rest.starts_with("/inbox?"))
            .filter(|rest| {
                rest.chars()
                    .all(|c| c.is_ascii_graphic() && !"#\\".contains(c))
            });
        match query {
            Some(query) => Ok(NextPage(query.to_owned())),
            None => Err(Error::Malformed(
                "the link to the inbox's next page leads out of the mailbox's inbox".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::Url;

    use super::*;
    use crate::MeshClient;

    fn mailbox() -> Mailbox {
        MeshClient::builder("http://localhost:1")
            .build()
            .unwrap()
            .mailbox("X26ABC1".parse().unwrap(), "p".into(), "k".into())
    }

    proptest! {
        #[test]
        fn no_link_leads_out_of_the_mailboxs_inbox(
            link in "(?s)((https?:)?//[a-z.@:]{0,9}|/?messageexchange|/messageexchange/[xX]26abc1)?(/inbox\\?|/\\.\\./|%2[eEfF]|.){0,12}",
        ) {
            match mailbox().next_page(&link) {
                Ok(NextPage(query)) => {
                    let own = "http://localhost:1/messageexchange/X26ABC1";
                    let url = Url::parse(&format!("{own}{query}")).unwrap();
                    prop_assert_eq!(url.host_str(), Some("localhost"));
                    prop_assert_eq!(url.path(), "/messageexchange/X26ABC1/inbox");
                    prop_assert_eq!(url.fragment(), None);
                }
                Err(error) => prop_assert!(matches!(error, Error::Malformed(_))),
            }
        }
    }

    #[test]
    fn a_link_is_followed_only_within_the_mailboxs_inbox() {
        let mailbox = mailbox();
        let query = "/inbox?max_results=10&continue_from=gAAA%3D%3D";
        for own in ["/messageexchange/X26ABC1", "/messageexchange/x26abc1"] {
            assert_eq!(
                mailbox.next_page(&format!("{own}{query}")).unwrap().0,
                query
            );
        }
        for link in [
            "https://elsewhere.example/messageexchange/X26ABC1/inbox?a=b",
            "//elsewhere.example/messageexchange/X26ABC1/inbox?a=b",
            "@elsewhere.example/messageexchange/X26ABC1/inbox?a=b",
            "/messageexchange/X26ABC2/inbox?a=b",
            "/messageexchange/X26ABC1/inbox/1?a=b",
            "/messageexchange/X26ABC1/../X26ABC2/inbox?a=b",
            "/messageexchange/X26ABC1/inbox?a=b c",
            "/messageexchange/X26ABC1/inbox?a=b#c",
            "/messageexchange/X26ABC1/inbox?a\r\nHost: x",
            "/messageexchange/X26ABC1",
            "/messageexchange/X26ABÇ1/inbox?a=b",
        ] {
            let error = mailbox.next_page(link).unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{link}");
        }
        let shown = format!(
            "{:?}",
            mailbox.next_page("/messageexchange/X26ABC1/inbox?s=SECRET")
        );
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}
