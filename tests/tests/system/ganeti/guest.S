# A guest of one sector: the boot program of a disk that writes to that disk for ever, through the
# BIOS, and tells each answered write on the serial port. It is what moves in a live migration.
#
# Turn n (from 1) is about slot n mod SLOTS, a sector of its own. It must hold what was written a
# round ago: n - SLOTS in each of its words, or zeros; then n is written there.
#
#   W0000002a   written and answered           B   another content than was written
#   E           the disk failed                    (both end it)
#
# as --32, ld -m elf_i386 --oformat binary -Ttext 0x7c00

        .code16
        .globl  _start

        .set    FIRST, 2048             # in sectors of 512 bytes; migration.rs says the same
        .set    SLOTS, 128              # a power of two
        .set    STRIDE, 256
        .set    WORDS, 128
        .set    BUFFER, 0x8000
        .set    SERIAL, 0x3f8           # and its line status five further on

_start: ljmp    $0, $begin
begin:  xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        cld
        movb    %dl, drive              # the BIOS tells from which disk it booted

turn:   incl    count
        movl    count, %eax
        andl    $(SLOTS - 1), %eax
        imull   $STRIDE, %eax
        addl    $FIRST, %eax
        movl    %eax, sector

        movb    $0x42, %ah              # extended read
        call    disk
        movl    count, %eax
        subl    $SLOTS, %eax
        jns     check
        xorl    %eax, %eax
check:  movw    $BUFFER, %di
        movw    $WORDS, %cx
        repe scasl
        movb    $'B', %al
        jne     end

        movl    count, %eax
        movw    $BUFFER, %di
        movw    $WORDS, %cx
        rep stosl
        movb    $0x43, %ah              # extended write
        call    disk

        movb    $'W', %al
        call    put
        movl    count, %ebx
        movw    $8, %cx
digit:  roll    $4, %ebx
        movb    %bl, %al
        andb    $15, %al
        addb    $'0', %al
        cmpb    $'9', %al
        jbe     known
        addb    $('a' - '9' - 1), %al
known:  call    put
        loop    digit
        movb    $'\n', %al
        call    put
        jmp     turn

disk:   movb    $0, %al
        movb    drive, %dl
        movw    $packet, %si
        int     $0x13
        movb    $'E', %al
        jc      end
        ret

end:    call    put
        movb    $'\n', %al
        call    put
stop:   hlt
        jmp     stop

put:    movb    %al, %ah                # waits until there is room, so that no byte is lost
full:   movw    $(SERIAL + 5), %dx
        inb     %dx, %al
        testb   $0x20, %al
        jz      full
        movb    %ah, %al
        movw    $SERIAL, %dx
        outb    %al, %dx
        ret

        .align  4
packet: .byte   16, 0
        .word   1                       # sectors
        .word   BUFFER, 0               # offset, segment
sector: .long   0, 0
count:  .long   0
drive:  .byte   0

        .org    510
        .word   0xaa55
