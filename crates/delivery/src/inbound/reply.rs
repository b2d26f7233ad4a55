//! Many outcomes, one reply: after DATA, SMTP has one for all recipients.

use super::Refusal;
use mox_smtp::Reply;

/// The reply to DATA: success if anybody got the message; else what all say, or a list of what each says.
pub fn combined_reply(outcomes: &[Result<(), Refusal>]) -> Reply {
    let refusals: Vec<&Reply> = outcomes.iter().filter_map(|o| o.as_ref().err()).map(|r| &r.reply).collect();
    let Some(first) = refusals.first().filter(|_| refusals.len() == outcomes.len()) else {
        return Reply::new(250, (2, 2, 0), "it is done");
    };
    if refusals.iter().all(|r| (r.code, r.enhanced) == (first.code, first.enhanced)) {
        let mut lines: Vec<String> = Vec::new();
        for line in refusals.iter().flat_map(|r| &r.lines) {
            if !lines.contains(line) {
                lines.push(line.clone());
            }
        }
        return Reply { lines, ..(*first).clone() };
    }
    let each = |r: &&Reply| {
        let enhanced = r.enhanced.map(|e| format!("{e} ")).unwrap_or_default();
        format!("{} {enhanced}{}", r.code, r.lines.join(" "))
    };
    let lines = refusals.iter().map(each).chain(["multiple errors".to_owned()]).collect::<Vec<_>>().join("\n");
    if refusals.iter().any(|r| r.is_permanent()) { Reply::new(554, (5, 3, 0), lines) } else { Reply::new(451, (4, 3, 0), lines) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reply_for_all() {
        let refuse = |code, enhanced, text: &str| Err(Refusal::new(Reply::new(code, enhanced, text)));
        let unknown = || refuse(550, (5, 1, 1), "no such user(s)");
        let full = || refuse(452, (4, 2, 2), "account storage full");
        let failed = || refuse(451, (4, 3, 0), "error processing");
        for (outcomes, want) in [
            (vec![Ok(()), unknown()], Reply::new(250, (2, 2, 0), "it is done")),
            (vec![unknown(), unknown()], Reply::new(550, (5, 1, 1), "no such user(s)")),
            (vec![refuse(550, (5, 1, 1), "a"), refuse(550, (5, 1, 1), "b")], Reply::new(550, (5, 1, 1), "a\nb")),
            (
                vec![unknown(), full()],
                Reply::new(554, (5, 3, 0), "550 5.1.1 no such user(s)\n452 4.2.2 account storage full\nmultiple errors"),
            ),
            (
                vec![failed(), full()],
                Reply::new(451, (4, 3, 0), "451 4.3.0 error processing\n452 4.2.2 account storage full\nmultiple errors"),
            ),
        ] {
            assert_eq!(combined_reply(&outcomes), want);
        }
    }
}
