
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
            cand send 'Send a message to the connected clients'
            cand connect 'Connect to a WebSocket server, at a terminal or in a pipe'
            cand status 'Show state, address, connections, listener and messages of all gateways, or of one'
            cand start 'Start a gateway'
            cand stop 'Stop a gateway and close its connections with code 1001'
            cand restart 'Restart a gateway, or only its listener'
            cand reload 'Read the config file again; an invalid file changes nothing'
            cand connections 'List the open connections of all gateways, or of one'
            cand channels 'List the channels of all gateways, or of one, or show one channel'
            cand history 'Print the messages that a gateway keeps, one per line'
            cand close 'Close one connection'
            cand open 'Open the operators'' page in a browser: print a link that is good once, for a minute'
            cand top 'Watch gateways in the terminal'
            cand check 'Try a listener: start it, send it what a gateway sends, and say what is wrong with it'
            cand bench 'Load a gateway, or another WebSocket server, and report rates, latencies and losses'
            cand completions 'Print the completion script for a shell'
            cand man 'Write the man pages'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'wsgw;serve'= {
            cand --config 'Config file (TOML) [default: wsgw/wsgw.toml in the user''s config directory, then /etc/wsgw/wsgw.toml]'
            cand --id 'Id of the gateway that the flags apply to [default: default]'
            cand --control 'Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]'
            cand --control-token-file 'Read the control token from this file instead of making a new one'
            cand --log-dir 'Directory of WebSocket.log; it must be writable [default: logs in the user''s state directory]'
            cand --log-level 'Log level: error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]'
            cand --host 'Address or name to bind (if a name has several addresses, one is bound, IPv4 first), or unix:PATH [default: 127.0.0.1]'
            cand --port 'Port to bind; 0 takes a free one [default: 10125]'
            cand --startup 'When the gateway starts: automatic (with serve), manual (by wsgw start) or disabled [default: automatic]'
            cand --listener 'Command line of the listener, run by `sh -c`'
            cand --hooks 'Events that the listener is sent: onHandshake, onClientOpen, onJoin, onMessage, onLeave, onClientClose, or none [default: onClientOpen,onClientClose,onMessage]'
            cand --route 'Recipients of a message if the answer names none: all, others, sender, channels (the members of the sender''s) or none [default: all]'
            cand --headers 'Request headers that the listener sees; * for all [default: origin, cookie, authorization, user-agent, x-forwarded-for, x-*]'
            cand --protocol 'Subprotocol to accept (repeatable); * accepts the client''s first offer [default: *]'
            cand --path 'Path that accepts connections (repeatable); * spans any characters [default: any]'
            cand --streams 'Also serve streams over plain HTTP: server-sent events, lines, raw bodies, polls, and POST [default: false]'
            cand --static 'Directory of static files to serve'
            cand --console 'Serve a page at / to try the gateway with [default: true on a loopback address or a unix socket]'
            cand --format 'Form of what the listener reads and writes: json (events and answers) or lines (bare messages) [default: json]'
            cand --compression 'Compression of messages (permessage-deflate): off or shared (once for all clients) [default: off]'
            cand --channels 'Where a client''s first channels come from: off (the listener alone), path or query (of the URL) [default: off]'
            cand --allow-channels 'Channels that a URL may ask for (repeatable); * spans any characters'
            cand --presence 'Channels whose members are told who joins and leaves (repeatable); * spans any characters'
            cand --history 'Number of messages to keep of each channel, and of what goes to all clients'
            cand --cluster 'How messages are shared with other nodes: off, ordered (one order on all nodes) or core [default: off]'
            cand --on-engine-loss 'What happens while no NATS server can be reached: local (own clients get their messages) or hold [default: local]'
            cand --window 'Maximum number of unanswered events [default: 256]'
            cand --listener-timeout 'How long an answer may take [default: 10s]'
            cand --on-timeout 'What happens to a message without an answer: drop, broadcast or close [default: drop]'
            cand --hang-timeout 'Time without output after which a listener that owes an answer is killed; at least twice listener-timeout [default: 30s]'
            cand --restart-delay-max 'Longest delay before a listener is restarted [default: 30s]'
            cand --drain 'How long a stop waits for unanswered events [default: 1s]'
            cand --close-spread 'Time over which a stop closes the clients, so that they do not all reconnect at once [default: 0]'
            cand --producer-wait 'How long a stream of messages waits in total for one client that is slow but still reading [default: 10s]'
            cand --max-connections 'Maximum number of connections [default: 1000000]'
            cand --max-connections-per-ip 'Maximum number of connections from one address (IPv6: one /64); 0 means no limit [default: 0]'
            cand --max-channels 'Maximum number of channels that one connection is in [default: 64]'
            cand --handshake-timeout 'Time to receive the request of a handshake [default: 10s]'
            cand --max-message 'Largest message from a client [default: 1MiB]'
            cand --max-queue 'Maximum number of bytes that wait for one slow client [default: 4MiB]'
            cand --ping-interval 'Time between pings; 0 means no pings [default: 30s]'
            cand --pong-timeout 'Time to answer a ping [default: 30s]'
            cand --idle-timeout 'Time without a message in either direction after which a connection is closed; 0 means never [default: 0]'
            cand --allow-origin 'Origin that may connect (repeatable): scheme://host or scheme://host:port, with * as a wildcard [default: localhost on a loopback address, else the same host]'
            cand --trusted-proxies 'Proxy (address or CIDR) whose X-Forwarded-For is trusted (repeatable)'
            cand --proxy-protocol 'Expect the PROXY protocol (v1 or v2) on each connection, from trusted-proxies alone [default: false]'
            cand --mode 'Mode of the unix socket [default: 0600]'
            cand --group 'Group of the unix socket'
            cand --max-rate 'Maximum number of messages per second from one connection; 0 means no limit [default: 0]'
            cand --max-line 'Longest line from the listener; at least six times max-message plus 64KiB [default: 16MiB]'
            cand --tls-cert 'Certificate chain (PEM) for wss'
            cand --tls-key 'Private key (PEM) for wss'
            cand --check-config 'Say whether the config file and the flags are good, with all that is wrong; bind and start nothing'
            cand -q 'Do not log to stderr'
            cand --quiet 'Do not log to stderr'
            cand --plain 'The listener reads and writes bare messages, a line each: the same as --format lines'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;send'= {
            cand -g 'The gateway; may be left out when only one runs'
            cand --gateway 'The gateway; may be left out when only one runs'
            cand --to 'Send only to this connection (repeatable)'
            cand --except 'Do not send to this connection (repeatable)'
            cand --channel 'Send only to the members of this channel (repeatable)'
            cand --data 'Send this JSON object, which has the key message or base64'
            cand --retry 'Keep trying for this time if the control port cannot be reached: seconds, or 1m30s'
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --base64 'Read the message as base64 and send it as binary'
            cand --binary 'Send stdin as one binary message'
            cand --lines 'Send each line of stdin as one message, as soon as it arrives'
            cand --no-hook 'Do not pass the message through the listener'
            cand --require-one 'Fail (exit code 4) if no client got the message'
            cand --require-all-nodes 'Fail (exit code 4) if a node of the cluster did not say in time what came of it'
            cand --json 'Print the result as JSON'
            cand -q 'Print only errors'
            cand --quiet 'Print only errors'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;connect'= {
            cand -H 'Add a request header, or all headers in a file, one per line (repeatable)'
            cand --header 'Add a request header, or all headers in a file, one per line (repeatable)'
            cand -s 'Offer a subprotocol (repeatable)'
            cand --subprotocol 'Offer a subprotocol (repeatable)'
            cand -o 'Send this Origin header'
            cand --origin 'Send this Origin header'
            cand -u 'Use basic authentication; with NAME alone, ask for the password at the terminal'
            cand --user 'Use basic authentication; with NAME alone, ask for the password at the terminal'
            cand --user-file 'Use basic authentication with the NAME:PASSWORD in this file'
            cand -x 'Send this message after connecting (repeatable); stdin is not read, except with -w -1 at a terminal'
            cand --execute 'Send this message after connecting (repeatable); stdin is not read, except with -w -1 at a terminal'
            cand -n 'Leave after N received messages'
            cand --count 'Leave after N received messages'
            cand -w 'After the end of stdin, leave if no message arrives for this time; -1 stays [default: 1; with -n or --echo: -1]'
            cand --wait 'After the end of stdin, leave if no message arrives for this time; -1 stays [default: 1; with -n or --echo: -1]'
            cand --proxy 'Connect through this proxy: http://, https:// or socks5h://, with USER:PASSWORD@ before the host; '''' uses none; loopback needs none [env: https_proxy, http_proxy, all_proxy, no_proxy]'
            cand --ping 'Send a ping at this interval'
            cand --timeout 'Time for the whole handshake'
            cand --color 'Colours: auto (on a terminal, unless NO_COLOR is set), always or never'
            cand --cacert 'Trust the certificates in this file (PEM)'
            cand --cert 'Use this client certificate (PEM)'
            cand --key 'Use this key for the client certificate (PEM)'
            cand -b 'Send lines as binary messages, and write received messages raw, without a newline'
            cand --binary 'Send lines as binary messages, and write received messages raw, without a newline'
            cand -L 'Follow up to five redirects; -H, user and password and --cert go to the same host only'
            cand --location 'Follow up to five redirects; -H, user and password and --cert go to the same host only'
            cand --compress 'Offer compression (permessage-deflate)'
            cand --reconnect 'Reconnect, with growing delays, after a failure, a lost connection or a close code other than 1000'
            cand --resume 'Reconnect in the same way, and get the messages that were missed; the server must speak wsgw.v1'
            cand --echo 'Send each received message back'
            cand --pretty 'Indent JSON messages'
            cand --timestamps 'Print the time before each message'
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
            cand --nodes 'Show the nodes of the gateway''s cluster'
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
            cand --listener 'Restart only the listener; the clients stay connected'
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
            cand --channel 'Show only the members of this channel'
            cand --limit 'Show at most N connections of each gateway'
            cand --after 'Show only those that connected after this connection, which may be closed'
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --local 'Of a cluster''s nodes, ask only this one'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;channels'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --local 'Count only the members on this node of a cluster'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;history'= {
            cand --channel 'Print only the messages of this channel (repeatable)'
            cand --since 'Print only what came since: last, a number of messages of each channel, a duration such as 5m, or a position'
            cand --limit 'Print at most N messages: the oldest after a position, else the newest'
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --json 'Print JSON frames, which have the positions'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;close'= {
            cand --code 'Send this close code'
            cand --reason 'Send this close reason'
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;open'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand --print 'Print the link, and open no browser'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;top'= {
            cand --control 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]'
            cand --token-file 'File that holds the control token [env: WSGW_TOKEN holds the token itself]'
            cand --timeout 'How long to wait for the answer: seconds, or 250ms, 1m30s'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;check'= {
            cand --url 'Path and query of the clients that are played [default: the first path of the gateway, or /]'
            cand -H 'A request header of the clients that are played (repeatable)'
            cand --header 'A request header of the clients that are played (repeatable)'
            cand --config 'Config file (TOML) [default: wsgw/wsgw.toml in the user''s config directory, then /etc/wsgw/wsgw.toml]'
            cand --id 'Id of the gateway that the flags apply to [default: default]'
            cand --control 'Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]'
            cand --control-token-file 'Read the control token from this file instead of making a new one'
            cand --log-dir 'Directory of WebSocket.log; it must be writable [default: logs in the user''s state directory]'
            cand --log-level 'Log level: error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]'
            cand --host 'Address or name to bind (if a name has several addresses, one is bound, IPv4 first), or unix:PATH [default: 127.0.0.1]'
            cand --port 'Port to bind; 0 takes a free one [default: 10125]'
            cand --startup 'When the gateway starts: automatic (with serve), manual (by wsgw start) or disabled [default: automatic]'
            cand --listener 'Command line of the listener, run by `sh -c`'
            cand --hooks 'Events that the listener is sent: onHandshake, onClientOpen, onJoin, onMessage, onLeave, onClientClose, or none [default: onClientOpen,onClientClose,onMessage]'
            cand --route 'Recipients of a message if the answer names none: all, others, sender, channels (the members of the sender''s) or none [default: all]'
            cand --headers 'Request headers that the listener sees; * for all [default: origin, cookie, authorization, user-agent, x-forwarded-for, x-*]'
            cand --protocol 'Subprotocol to accept (repeatable); * accepts the client''s first offer [default: *]'
            cand --path 'Path that accepts connections (repeatable); * spans any characters [default: any]'
            cand --streams 'Also serve streams over plain HTTP: server-sent events, lines, raw bodies, polls, and POST [default: false]'
            cand --static 'Directory of static files to serve'
            cand --console 'Serve a page at / to try the gateway with [default: true on a loopback address or a unix socket]'
            cand --format 'Form of what the listener reads and writes: json (events and answers) or lines (bare messages) [default: json]'
            cand --compression 'Compression of messages (permessage-deflate): off or shared (once for all clients) [default: off]'
            cand --channels 'Where a client''s first channels come from: off (the listener alone), path or query (of the URL) [default: off]'
            cand --allow-channels 'Channels that a URL may ask for (repeatable); * spans any characters'
            cand --presence 'Channels whose members are told who joins and leaves (repeatable); * spans any characters'
            cand --history 'Number of messages to keep of each channel, and of what goes to all clients'
            cand --cluster 'How messages are shared with other nodes: off, ordered (one order on all nodes) or core [default: off]'
            cand --on-engine-loss 'What happens while no NATS server can be reached: local (own clients get their messages) or hold [default: local]'
            cand --window 'Maximum number of unanswered events [default: 256]'
            cand --listener-timeout 'How long an answer may take [default: 10s]'
            cand --on-timeout 'What happens to a message without an answer: drop, broadcast or close [default: drop]'
            cand --hang-timeout 'Time without output after which a listener that owes an answer is killed; at least twice listener-timeout [default: 30s]'
            cand --restart-delay-max 'Longest delay before a listener is restarted [default: 30s]'
            cand --drain 'How long a stop waits for unanswered events [default: 1s]'
            cand --close-spread 'Time over which a stop closes the clients, so that they do not all reconnect at once [default: 0]'
            cand --producer-wait 'How long a stream of messages waits in total for one client that is slow but still reading [default: 10s]'
            cand --max-connections 'Maximum number of connections [default: 1000000]'
            cand --max-connections-per-ip 'Maximum number of connections from one address (IPv6: one /64); 0 means no limit [default: 0]'
            cand --max-channels 'Maximum number of channels that one connection is in [default: 64]'
            cand --handshake-timeout 'Time to receive the request of a handshake [default: 10s]'
            cand --max-message 'Largest message from a client [default: 1MiB]'
            cand --max-queue 'Maximum number of bytes that wait for one slow client [default: 4MiB]'
            cand --ping-interval 'Time between pings; 0 means no pings [default: 30s]'
            cand --pong-timeout 'Time to answer a ping [default: 30s]'
            cand --idle-timeout 'Time without a message in either direction after which a connection is closed; 0 means never [default: 0]'
            cand --allow-origin 'Origin that may connect (repeatable): scheme://host or scheme://host:port, with * as a wildcard [default: localhost on a loopback address, else the same host]'
            cand --trusted-proxies 'Proxy (address or CIDR) whose X-Forwarded-For is trusted (repeatable)'
            cand --proxy-protocol 'Expect the PROXY protocol (v1 or v2) on each connection, from trusted-proxies alone [default: false]'
            cand --mode 'Mode of the unix socket [default: 0600]'
            cand --group 'Group of the unix socket'
            cand --max-rate 'Maximum number of messages per second from one connection; 0 means no limit [default: 0]'
            cand --max-line 'Longest line from the listener; at least six times max-message plus 64KiB [default: 16MiB]'
            cand --tls-cert 'Certificate chain (PEM) for wss'
            cand --tls-key 'Private key (PEM) for wss'
            cand --json 'Print the findings and the steps as JSON'
            cand -q 'Do not log to stderr'
            cand --quiet 'Do not log to stderr'
            cand --plain 'The listener reads and writes bare messages, a line each: the same as --format lines'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;bench'= {
            cand -c 'How many connections'
            cand --connections 'How many connections'
            cand -d 'How long to measure: seconds, or 250ms, 1m30s'
            cand --duration 'How long to measure: seconds, or 250ms, 1m30s'
            cand --mode 'What to measure'
            cand --rate 'Send so many messages a second, whether the answers come or not; without it, the next message follows the answer to the last'
            cand --payload 'Bytes in a message'
            cand --channel 'Join this channel by the URL; a gateway with the route "channels" sends what its members send to all of them'
            cand -H 'Add a request header (repeatable)'
            cand --header 'Add a request header (repeatable)'
            cand --cacert 'Trust the certificates in this file (PEM)'
            cand --html 'Write the report with its plots to this file, too'
            cand --assert 'Fail (exit code 1) where the report breaks one of these, such as p99<20ms,lost=0'
            cand --insecure 'Do not check the server''s certificate'
            cand --json 'Print the report as JSON'
            cand --remote 'Load a server on another machine: ask its owner before'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;completions'= {
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;man'= {
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'wsgw;help'= {
            cand serve 'Run gateways until SIGINT or SIGTERM'
            cand send 'Send a message to the connected clients'
            cand connect 'Connect to a WebSocket server, at a terminal or in a pipe'
            cand status 'Show state, address, connections, listener and messages of all gateways, or of one'
            cand start 'Start a gateway'
            cand stop 'Stop a gateway and close its connections with code 1001'
            cand restart 'Restart a gateway, or only its listener'
            cand reload 'Read the config file again; an invalid file changes nothing'
            cand connections 'List the open connections of all gateways, or of one'
            cand channels 'List the channels of all gateways, or of one, or show one channel'
            cand history 'Print the messages that a gateway keeps, one per line'
            cand close 'Close one connection'
            cand open 'Open the operators'' page in a browser: print a link that is good once, for a minute'
            cand top 'Watch gateways in the terminal'
            cand check 'Try a listener: start it, send it what a gateway sends, and say what is wrong with it'
            cand bench 'Load a gateway, or another WebSocket server, and report rates, latencies and losses'
            cand completions 'Print the completion script for a shell'
            cand man 'Write the man pages'
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
        &'wsgw;help;channels'= {
        }
        &'wsgw;help;history'= {
        }
        &'wsgw;help;close'= {
        }
        &'wsgw;help;open'= {
        }
        &'wsgw;help;top'= {
        }
        &'wsgw;help;check'= {
        }
        &'wsgw;help;bench'= {
        }
        &'wsgw;help;completions'= {
        }
        &'wsgw;help;man'= {
        }
        &'wsgw;help;help'= {
        }
    ]
    $completions[$command]
}
