//! What a body may weigh once it is read: JSON of a few bytes can become a thousand times as much.

/// Each byte is kept in the tree that is read, and in the pod that is made of it.
const OF_BYTE: usize = 3;
/// An object has a node of a tree, in both, and is read into a struct.
const OF_OBJECT: usize = 1536;
/// Any other value has a place in a list that grows by doubling, and a text of its own.
const OF_VALUE: usize = 192;

/// The bytes that reading `body`, and deciding on it, takes at most; what is no JSON is not read to its end.
pub(super) fn weight(body: &[u8]) -> usize {
    let (mut objects, mut values) = (0_usize, 1_usize);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in body {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' if !is_text => objects += 1,
            b'[' | b',' if !is_text => values += 1,
            _ => {}
        }
    }
    body.len() * OF_BYTE + objects * OF_OBJECT + values * OF_VALUE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_review_weighs_little_and_a_dense_one_much() {
        let container = r#"{"name":"app","image":"x","env":[{"name":"A","value":"b"},{"name":"C","value":"d"}]}"#;
        let usual = format!(r#"{{"spec":{{"containers":[{}]}}}}"#, [container; 10].join(","));
        assert!(weight(usual.as_bytes()) < 100 * 1024);
        let dense = [r#"{"a":1}"#; 1000].join(",");
        assert!(weight(dense.as_bytes()) > dense.len() * 100);
    }

    #[test]
    fn what_stands_in_a_text_is_no_structure() {
        let text = r#""{{{,,,[[[\"{{\\""#;
        assert_eq!(weight(text.as_bytes()), text.len() * OF_BYTE + OF_VALUE);
        assert_eq!(weight(br#""\\",{}"#), 7 * OF_BYTE + OF_OBJECT + 2 * OF_VALUE);
    }
}
