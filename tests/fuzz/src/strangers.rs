//! Peers that know nothing of each other and share clients: each hears exactly what a connection of its own would have told
//! it, whatever they say, however it is cut, and whichever client each is lent.

use self::meeting::{COPY_IN, CopyData, FORGETTING, Group, Meeting, NAMES, Part, Sql};
use self::model::ZONE;
use super::input::Input;

#[allow(dead_code, reason = "the gateway's own tests need more of it")]
#[path = "../../../gateway/src/postgres/exchange/tests/talk.rs"]
mod talk;
#[allow(dead_code, reason = "the gateway's own tests need more of it")]
#[path = "../../../gateway/src/postgres/exchange/tests/model.rs"]
mod model;
#[path = "../../../gateway/src/postgres/exchange/tests/meeting.rs"]
mod meeting;

/// Peers, at most; and what each says.
const MOST_PEERS: usize = 4;
const MOST_GROUPS: usize = 12;
const SQL: [Sql; 12] = [
    Sql::Text("select 1"),
    Sql::Text(ZONE),
    Sql::Text("show application_name"),
    Sql::Text(""),
    Sql::Own("select "),
    Sql::Own("set application_name to "),
    Sql::Text("begin"),
    Sql::Text("commit"),
    Sql::Text("rollback"),
    Sql::Text("fail"),
    Sql::Text("copy t to stdout"),
    Sql::Text("listen t"),
];

/// What happens when, whether the first peer says nonsense and which, then what each says.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (chance, faults) = (input.number(), input.below(5));
    let faults: Vec<_> = (0..faults).map(|_| (input.number(), input.byte())).collect();
    let scripts: Vec<Vec<Group>> = (0..=input.below(MOST_PEERS))
        .map(|_| (0..input.below(MOST_GROUPS)).map(|_| group(&mut input)).collect())
        .collect();
    let mut meeting = Meeting::new(&scripts, chance);
    let first = usize::from(!faults.is_empty());
    for (place, byte) in faults {
        let mut said: Vec<_> = meeting.peers[0].groups.iter_mut().flat_map(|said| &mut said.bytes).collect();
        if let Some(places) = u64::try_from(said.len()).ok().filter(|places| *places > 0) {
            *said[usize::try_from(place % places).expect("it is below the length")] = byte;
        }
    }
    meeting.run(first);
    for peer in &meeting.peers[first..] {
        assert_eq!(peer.ended, None);
        let [heard, expected] = peer.heard_and_expected();
        assert_eq!(heard, expected);
    }
}

fn group(input: &mut Input<'_>) -> Group {
    match input.below(8) {
        0 | 1 => Group::Query(input.one_of(&SQL)),
        2 => Group::Query(Sql::Text(input.one_of(&FORGETTING))),
        3 => Group::Query(Sql::Text(COPY_IN)),
        4 => Group::CopyIn([CopyData::Done, CopyData::Failed, CopyData::AfterSync][input.below(3)]),
        // As drivers do it.
        5 => {
            let name = input.one_of(&NAMES);
            let parse = Part::Parse(name, input.one_of(&SQL));
            Group::Extended(vec![parse, Part::Bind("", name), Part::Describe('P', ""), Part::Execute("")])
        }
        _ => Group::Extended((0..input.below(8)).map(|_| part(input)).collect()),
    }
}

fn part(input: &mut Input<'_>) -> Part {
    let (name, portal) = (input.one_of(&NAMES), input.one_of(&["", "p"]));
    let kind = input.one_of(&['S', 'P']);
    match input.below(6) {
        0 => Part::Parse(name, input.one_of(&SQL)),
        1 => Part::Bind(portal, name),
        2 => Part::Describe(kind, name),
        3 => Part::Execute(portal),
        4 => Part::Close(kind, name),
        _ => Part::Flush,
    }
}
