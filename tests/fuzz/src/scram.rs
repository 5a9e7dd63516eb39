//! A login by SCRAM with somebody in between, who changes messages: who is let in has been heard word for word, and knows the
//! password; and who proves nothing is not believed.

use gateway::postgres::scram::client::Client;
use gateway::postgres::scram::server::{Server, Verifier, initial};
use gateway::postgres::scram::{Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

use super::input::Input;

/// A certificate's hash, and that of another.
const HASHES: [&[u8]; 2] = [&[7; 32], &[8; 32]];
const OURS: &str = "rOprNGfwEbeRWgbNEkqO";
const THEIRS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
/// What costs nothing.
const FEW: u32 = 1;

thread_local! {
    static VERIFIER: Verifier = Verifier::of("secret", [1; 16], FEW);
}

/// Who both ends are, then what becomes of each of the four messages.
pub fn run(data: &[u8]) {
    VERIFIER.with(|verifier| between(verifier, Input::new(data)));
}

fn between(verifier: &Verifier, mut input: Input<'_>) {
    let both = input.byte();
    let binding = match both & 3 {
        0 => Binding::Unable,
        1 => Binding::Unoffered,
        2 => Binding::EndPoint(HASHES[0].to_vec()),
        _ => Binding::EndPoint(HASHES[1].to_vec()),
    };
    let password = if both & 8 == 0 { "secret" } else { "Secret" };
    let server = Server { verifier, end_point: (both & 4 != 0).then_some(HASHES[0]) };
    // Somebody may offer less than there is.
    let mechanism =
        if both & 16 == 0 { None } else { Some([SCRAM_SHA_256, SCRAM_SHA_256_PLUS][usize::from(both >> 7)]) };
    let client = Client::new(binding.clone(), OURS);

    let sent = client.first();
    let first = input.changed(sent.as_bytes());
    let is_first_true = *first == *sent.as_bytes();
    // What it is wrapped in is another target's.
    let _ = initial(&first);
    let Ok((waiting, sent)) = server.challenge(mechanism.unwrap_or(client.mechanism()), &first, THEIRS) else { return };
    let challenge = input.changed(sent.as_bytes());
    let is_challenge_true = *challenge == *sent.as_bytes();
    if is_costly(&challenge) {
        return;
    }
    let Ok(challenged) = client.challenged(&challenge, password) else { return };
    let (sent, answered) = challenged.answer();
    let last = input.changed(sent.as_bytes());
    let is_last_true = *last == *sent.as_bytes();
    let proved = server.verify(waiting, &last);
    let is_all_true =
        is_first_true && is_challenge_true && is_last_true && mechanism.is_none_or(|it| it == binding.mechanism());
    let is_bound_right = match &binding {
        Binding::Unable => true,
        Binding::Unoffered => server.end_point.is_none(),
        Binding::EndPoint(hash) => server.end_point == Some(hash),
    };
    assert_eq!(proved.is_ok(), is_all_true && is_bound_right && password == "secret", "{proved:?}");
    let proof = proved.unwrap_or_else(|error| format!("e={error}"));
    let told = input.changed(proof.as_bytes());
    let is_believed = answered.verify(&told).is_ok();
    assert_eq!(is_believed, is_all_true && proof.starts_with("v=") && *told == *proof.as_bytes());
}

/// Whether it asks for so many iterations that trying each input takes long.
pub fn is_costly(challenge: &[u8]) -> bool {
    let asked = challenge.windows(3).rposition(|window| window == b",i=").map_or(&[][..], |at| &challenge[at + 3..]);
    asked.iter().take_while(|byte| byte.is_ascii_digit()).skip_while(|byte| **byte == b'0').count() > 2
}
