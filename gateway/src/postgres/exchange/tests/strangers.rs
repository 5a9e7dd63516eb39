//! Peers that know nothing of each other, at random: a [`meeting`](super::meeting) of any of them ends well.

use super::meeting::{COPY_IN, CopyData, FORGETTING, Group, Meeting, NAMES, Part, Sql};
use super::model::ZONE;
use super::*;

fn sql() -> impl Strategy<Value = Sql> {
    prop_oneof![
        4 => Just(Sql::Text(ZONE)),
        4 => prop::sample::select(vec!["select 1", "show application_name", ""]).prop_map(Sql::Text),
        4 => prop::sample::select(vec!["select ", "set application_name to "]).prop_map(Sql::Own),
        4 => prop::sample::select(vec!["begin", "commit", "rollback", "fail", "what"]).prop_map(Sql::Text),
        1 => Just(Sql::Text("copy t to stdout")),
        1 => Just(Sql::Text("listen t")),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    let name = || prop::sample::select(NAMES.to_vec());
    let portal = || prop::sample::select(vec!["", "", "p"]);
    let kind = || prop::sample::select(vec!['S', 'P']);
    prop_oneof![
        4 => (name(), sql()).prop_map(|(name, sql)| Part::Parse(name, sql)),
        4 => (portal(), name()).prop_map(|(portal, name)| Part::Bind(portal, name)),
        2 => (kind(), name()).prop_map(|(kind, name)| Part::Describe(kind, name)),
        4 => portal().prop_map(Part::Execute),
        2 => (kind(), name()).prop_map(|(kind, name)| Part::Close(kind, name)),
        1 => Just(Part::Flush),
    ]
}

fn group() -> impl Strategy<Value = Group> {
    let copy = prop::sample::select(vec![CopyData::Done, CopyData::Failed, CopyData::AfterSync]);
    // What a driver says to run a statement, so that not everything is an error.
    let whole = (prop::sample::select(NAMES.to_vec()), sql()).prop_map(|(name, sql)| {
        vec![Part::Parse(name, sql), Part::Bind("", name), Part::Describe('P', ""), Part::Execute("")]
    });
    let again = prop::sample::select(NAMES.to_vec()).prop_map(|name| vec![Part::Bind("", name), Part::Execute("")]);
    let parts = prop_oneof![whole, again, prop::collection::vec(part(), 0..6)];
    prop_oneof![
        4 => sql().prop_map(Group::Query),
        1 => prop::sample::select(FORGETTING.to_vec()).prop_map(|text| Group::Query(Sql::Text(text))),
        1 => Just(Group::Query(Sql::Text(COPY_IN))),
        1 => copy.prop_map(Group::CopyIn),
        10 => prop::collection::vec(parts, 1..3).prop_map(|parts| Group::Extended(parts.concat())),
    ]
}

fn scripts() -> impl Strategy<Value = Vec<Vec<Group>>> {
    prop::collection::vec(prop::collection::vec(group(), 0..8), 1..4)
}

proptest! {
    #[test]
    fn each_of_any_strangers_hears_what_it_would_hear_alone(scripts in scripts(), chance in any::<u64>()) {
        let mut meeting = Meeting::new(&scripts, chance);
        meeting.run(0);
        for peer in meeting.peers {
            prop_assert_eq!(&peer.ended, &None);
            let [heard, expected] = peer.heard_and_expected();
            prop_assert_eq!(heard, expected);
        }
    }

    #[test]
    fn nobody_hears_of_a_stranger_that_says_anything(
        scripts in scripts(),
        chance in any::<u64>(),
        faults in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut meeting = Meeting::new(&scripts, chance);
        for (place, byte) in faults {
            let mut said = meeting.peers[0].groups.iter_mut().flat_map(|said| &mut said.bytes).collect::<Vec<_>>();
            if !said.is_empty() {
                let place = place.index(said.len());
                *said[place] = byte;
            }
        }
        meeting.run(1);
        for peer in &meeting.peers[1..] {
            prop_assert_eq!(&peer.ended, &None);
            let [heard, expected] = peer.heard_and_expected();
            prop_assert_eq!(heard, expected);
        }
    }
}
