//! What API keys may be limited to: groups of methods, or methods by their names.

use crate::method::{METHODS, Method};

words! {
    /// A group of methods.
    pub enum Scope {
        /// Sending messages.
        Send = "send",
        /// Reading stored messages, and listing them and mailboxes.
        Read = "read",
        /// Changing, moving and removing stored messages.
        Change = "change",
        /// The suppression list.
        Suppressions = "suppressions",
        /// Templates of messages.
        Templates = "templates",
        /// Following messages that are being sent, and changing and cancelling their delivery.
        Queue = "queue",
    }
}

/// Whether a word is the name of a scope or of a method.
pub fn is_known(word: &str) -> bool {
    Scope::ALL.iter().any(|scope| scope.as_str() == word) || Method::by_name(word).is_some()
}

/// Whether words, each the name of a scope or of a method, include a method. No words are no limit.
pub fn includes(words: &[String], method: &Method) -> bool {
    words.is_empty() || words.iter().any(|word| word == method.scope.as_str() || word == method.name)
}

/// The methods of a scope.
pub fn methods(scope: Scope) -> impl Iterator<Item = &'static Method> {
    METHODS.iter().filter(move |method| method.scope == scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_single_methods() {
        let allowed = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            METHODS.iter().filter(|method| includes(&words, method)).map(|method| method.name).collect::<Vec<_>>()
        };
        assert_eq!(allowed(&[]).len(), METHODS.len());
        assert_eq!(allowed(&["MessageGet", "SuppressionPresent"]), ["SuppressionPresent", "MessageGet"]);
        assert_eq!(allowed(&["read"]), ["MessageGet", "MessageRawGet", "MessagePartGet", "MailboxList", "MessageList"]);
        assert!(allowed(&["Read", "everything"]).is_empty());
        assert!(is_known("queue") && is_known("Send") && !is_known("Queue") && !is_known(""));
        let all: usize = Scope::ALL.iter().map(|scope| methods(*scope).count()).sum();
        assert_eq!(all, METHODS.len());
    }
}
