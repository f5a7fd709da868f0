if .event == "onClientOpen" and (.channels | not) then {id, join: "lobby"}
elif .conn and (.message | startswith("/join ")) then {id, leave: (.channels // []), join: .message[6:], connections: [.conn], message: "You are in \(.message[6:])."}
else {id} end
