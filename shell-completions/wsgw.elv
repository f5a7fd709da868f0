
use builtin;
use str;

set edit:completion:arg-completer[wsgw] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'wsgw'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'wsgw'= {
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
            cand serve 'Run gateways until SIGINT or SIGTERM'
            cand send 'Push a message to the connected clients'
            cand connect 'Connect to a WebSocket server, by hand or from a pipe'
            cand status 'Show every gateway, or one: state, address, connections, listener, messages'
            cand start 'Start a gateway'
            cand stop 'Stop a gateway; its connections are closed with 1001'
            cand restart 'Stop and start a gateway, or replace its listener alone'
            cand reload 'Re-read the config file; an invalid one changes nothing'
            cand connections 'List the open connections, of all gateways or of one'
            cand close 'Close one connection'
            cand completions 'Print the completion script of a shell'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'wsgw;serve'= {
            cand --config 'Config file (TOML) [default: wsgw/wsgw.toml in the user''s config directory, then /etc/wsgw/wsgw.toml]'
            cand --id 'The gateway that the flags are about [default: default]'
            cand --control 'Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]'
            cand --control-token-file 'Take the control token from this file instead of making one'
            cand --log-dir 'Directory of WebSocket.log; a given one that cannot be written is fatal [default: logs in the user''s state directory]'
            cand --log-level 'error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]'
            cand --host 'Address to bind, or a name; of a name with several addresses one is bound, IPv4 first [default: 127.0.0.1]'
            cand --port 'Port to bind, 0 for a free one [default: 10125]'
            cand --startup 'automatic, manual or disabled [default: automatic]'
            cand --listener 'The listener as one string for `sh -c`'
            cand --hooks 'Events the listener is sent: onHandshake, onClientOpen, onMessage, onClientClose, or none [default: onClientOpen,onClientClose,onMessage]'
            cand --route 'Who gets a message when the answer names nobody: all, others, sender or none [default: all]'
            cand --headers 'Request headers that the listener sees, * for all [default: origin, cookie, authorization, user-agent, x-forwarded-for, x-*]'
            cand --protocol 'Subprotocol to accept (repeatable), * for the client''s first offer [default: *]'
            cand --path 'Path that accepts connections, * spans any characters (repeatable) [default: any]'
            cand --window 'Most unanswered events at a time [default: 256]'
            cand --listener-timeout 'How long an answer may take [default: 10s]'
            cand --on-timeout 'What happens to a message that got no answer: drop, broadcast or close [default: drop]'
            cand --hang-timeout 'Silence after which a listener that owes an answer is killed; at least twice listener-timeout [default: 30s]'
            cand --restart-delay-max 'Longest pause before a listener is started again [default: 30s]'
            cand --drain 'How long a stop waits for unanswered events [default: 1s]'
            cand --close-spread 'Time over which a stop spreads the closes, so that the clients do not all come back at once [default: 0]'
            cand --producer-wait 'How long a stream of messages waits in all for one client that is slow but still reading [default: 10s]'
            cand --max-connections 'Most connections at a time [default: 1000000]'
            cand --max-connections-per-ip 'Most connections from one address (IPv6: one /64), 0 for no limit [default: 0]'
            cand --handshake-timeout 'Time to receive the handshake''s request [default: 10s]'
            cand --max-message 'Largest message from a client [default: 1MiB]'
            cand --max-queue 'Most bytes that may wait for one slow client [default: 4MiB]'
            cand --ping-interval 'Time between pings, 0 for none [default: 30s]'
            cand --pong-timeout 'Time to answer a ping [default: 30s]'
            cand --idle-timeout 'Time without a message either way after which a connection is closed, 0 for never [default: 0]'
            cand --allow-origin 'Origin that may connect, scheme://host or scheme://host:port, * as a wildcard (repeatable) [default: localhost on a loopback address, else the same host]'
            cand --trusted-proxies 'Proxy (address or CIDR) whose X-Forwarded-For is believed (repeatable)'
            cand --max-rate 'Messages per second from one connection, 0 for no limit [default: 0]'
            cand --max-line 'Longest line from the listener; at least six times max-message and 64KiB [default: 16MiB]'
            cand --tls-cert 'Certificate chain (PEM) for wss'
            cand --tls-key 'Private key (PEM) for wss'
            cand -q 'Do not log to stderr'
            cand --quiet 'Do not log to stderr'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;send'= {
            cand -g 'The gateway; may be left out when only one runs'
            cand --gateway 'The gateway; may be left out when only one runs'
            cand --to 'Only to this connection (repeatable)'
            cand --except 'To all but this connection (repeatable)'
            cand --data 'The whole struct as JSON; holds message or base64'
            cand --retry 'How long to keep trying while the control port cannot be reached: seconds, or 1m30s'
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --base64 'The message is base64 of a binary one'
            cand --binary 'Stdin is one binary message'
            cand --lines 'Each line of stdin is one message, sent as it comes'
            cand --no-hook 'Skip the listener'
            cand --require-one 'Fail (exit 4) if nobody got it'
            cand --json 'Print the result as JSON'
            cand -q 'Print nothing but errors'
            cand --quiet 'Print nothing but errors'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;connect'= {
            cand -H 'Add a request header, or those of a file, one a line (repeatable)'
            cand --header 'Add a request header, or those of a file, one a line (repeatable)'
            cand -s 'Offer a subprotocol (repeatable)'
            cand --subprotocol 'Offer a subprotocol (repeatable)'
            cand -o 'Origin of the request'
            cand --origin 'Origin of the request'
            cand -u 'Basic authentication; NAME alone asks for the password at the terminal'
            cand --user 'Basic authentication; NAME alone asks for the password at the terminal'
            cand --user-file 'Basic authentication with the NAME:PASSWORD in this file'
            cand -x 'Send this message after connecting (repeatable); stdin is not read, but with -w -1 on a terminal'
            cand --execute 'Send this message after connecting (repeatable); stdin is not read, but with -w -1 on a terminal'
            cand -n 'Leave after N messages'
            cand --count 'Leave after N messages'
            cand -w 'At the end of stdin, leave after so many seconds of silence; -1 stays [default: 1, with -n or --echo none]'
            cand --wait 'At the end of stdin, leave after so many seconds of silence; -1 stays [default: 1, with -n or --echo none]'
            cand --ping 'Send a ping every so many seconds'
            cand --timeout 'Seconds for the whole handshake'
            cand --color 'Colours: auto (on a terminal, unless NO_COLOR is set), always or never'
            cand --cacert 'Trust the certificates of this file (PEM)'
            cand --cert 'Client certificate (PEM)'
            cand --key 'Key of the client certificate (PEM)'
            cand -b 'Send lines as binary messages, write received ones raw'
            cand --binary 'Send lines as binary messages, write received ones raw'
            cand --reconnect 'Connect again when the connection is lost or refused, with growing delays'
            cand --echo 'Send each message back'
            cand --pretty 'Indent JSON messages'
            cand --timestamps 'Put the time before each message'
            cand --insecure 'Do not check the server''s certificate'
            cand -v 'Show the handshake'
            cand --verbose 'Show the handshake'
            cand --no-history 'Neither read nor write the history file'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;status'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;start'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;stop'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;restart'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --listener 'Replace the listener alone; the clients stay'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;reload'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;connections'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;close'= {
            cand --code 'Close code'
            cand --reason 'Close reason'
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;completions'= {
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;help'= {
            cand serve 'Run gateways until SIGINT or SIGTERM'
            cand send 'Push a message to the connected clients'
            cand connect 'Connect to a WebSocket server, by hand or from a pipe'
            cand status 'Show every gateway, or one: state, address, connections, listener, messages'
            cand start 'Start a gateway'
            cand stop 'Stop a gateway; its connections are closed with 1001'
            cand restart 'Stop and start a gateway, or replace its listener alone'
            cand reload 'Re-read the config file; an invalid one changes nothing'
            cand connections 'List the open connections, of all gateways or of one'
            cand close 'Close one connection'
            cand completions 'Print the completion script of a shell'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'wsgw;help;serve'= {
        }
        &'wsgw;help;send'= {
        }
        &'wsgw;help;connect'= {
        }
        &'wsgw;help;status'= {
        }
        &'wsgw;help;start'= {
        }
        &'wsgw;help;stop'= {
        }
        &'wsgw;help;restart'= {
        }
        &'wsgw;help;reload'= {
        }
        &'wsgw;help;connections'= {
        }
        &'wsgw;help;close'= {
        }
        &'wsgw;help;completions'= {
        }
        &'wsgw;help;help'= {
        }
    ]
    $completions[$command]
}
